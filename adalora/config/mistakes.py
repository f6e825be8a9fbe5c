"""Explain command-line mistakes in one line: what is wrong, and what is allowed, nearest first."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, InterpolationResolutionError, OmegaConfBaseException, ValidationError

from adalora.backbones.options import GENERIC
from adalora.config import schema
from adalora.config.other_tools import HERE, METHODS_ELSEWHERE
from adalora.config.usage import names
from adalora.errors import UserError
from adalora.methods.discovery import METHODS
from adalora.options import as_number, instead, written
from adalora.paths import CONF
from tasks.discovery import TASKS

TYPES = {
    node.__name__: [field.name for field in fields(node)]
    for node in (*vars(schema).values(), *METHODS.values(), *TASKS.values())
    if is_dataclass(node) and isinstance(node, type)
}
"""The options in each part of the configuration, by dataclass name."""

LAUNCHERS = (
    ("workers", "joblib", "hydra-joblib-launcher"),
    ("slurm", "submitit_slurm", "hydra-submitit-launcher"),
)
"""Our launchers, the Hydra launcher each uses, and its package."""


WITH_VALUE = (
    "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package", "-p", "--cfg", "-c",
    "--info", "-i",
)  # fmt: skip
"""Hydra's flags that the next argument belongs to."""

LISTED = {
    "task": "python train.py --help lists all, and docs/own_data.md is about data of your own",
    "model": "python train.py --help lists all, and docs/own_model.md is about any other",
    "method": "python train.py --help lists all, and docs/extending.md is about one of your own",
    "budget": "python train.py --help lists all, and budget=custom budget.params=250_000 is any number",
}
"""Where all choices of a group are."""

PARTS = {
    "training": [field.name for field in fields(schema.Training)],
    "task": sorted({field.name for kind in TASKS.values() for field in fields(kind)}),
    "method": sorted({field.name for kind in METHODS.values() for field in fields(kind)}),
    "model": [field.name for field in fields(schema.Model)],
    "wandb": [field.name for field in fields(schema.WandbOptions)],
}
"""The options by section, of all tasks and methods."""
TOP = [field.name for field in fields(schema.Config)]

KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list such as [a,b]",
    dict: "a mapping such as {a: 1}",
    NoneType: "null",
}


def check_arguments(arguments: Sequence[str]) -> None:
    """Reject what Hydra only prints a traceback for: a number or null as a group's choice (`budget=0.3`), and
    `--multirun` with `--cfg` or `--info`; and what it can't read, with the form that works.

    Raises:
        UserError: the message says what is allowed.
    """
    for argument in arguments:
        name = argument.partition("=")[0].lstrip("-").replace("-", "_")
        if argument.startswith("--") and (name.partition(".")[0] in (*TOP, *HERE) or (CONF / name).is_dir()):
            hint = f"here it is {HERE[name]}" if name in HERE else f"give {name}=VALUE"
            raise UserError(f"{argument}: options have no dashes, {hint}")
    names_given = {argument.partition("=")[0] for argument in arguments}
    shows = names_given & {"--cfg", "-c", "--info", "-i"}
    if shows and names_given & {"--multirun", "-m"}:
        raise UserError(f"{min(shows)} shows a single run's configuration: leave --multirun out")
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument.startswith("-") and before not in WITH_VALUE:
            check_override(argument, sweeping=bool(names_given & {"--multirun", "-m"}))
        group, given, values = argument.partition("=")
        for value in values.split(","):
            folder = value.startswith(("/", ".", "~")) or (value not in names("model") and Path(value).is_dir())
            if group == "model" and folder:
                raise UserError(f"model={value} doesn't exist: for a folder give model=decoder model.path={value}")
            if group == "model" and "/" in value:
                raise UserError(
                    f"model={value} doesn't exist: for a repository on the hub give model.hub={value} and "
                    f"model={' or '.join(dict.fromkeys(GENERIC.values()))}"
                )
            if group and given and (CONF / group).is_dir() and (value in ("null", "") or as_number(value) is not None):
                raise UserError(no_choice(group, value, names(group)))


def check_override(argument: str, sweeping: bool) -> None:
    """Reject an override that Hydra can't read, or that has several values in a single run. Raises `UserError`."""
    parser = OverridesParser.create()
    key, _, value = argument.partition("=")
    quoted = f'{key}="{escape(value)}"'
    try:
        several = parser.parse_overrides([argument])[0].is_sweep_override() and not sweeping
    except HydraException as error:  # OverrideParseException is one
        try:
            parser.parse_overrides([quoted])
        except HydraException:
            raise UserError(f"{argument!r} can't be read: overrides are key=value") from error
        if "=" not in argument:
            raise UserError(f"{argument!r} can't be read: give {key}=VALUE") from error
        raise UserError(f"{argument!r} can't be read, its value needs quotes: {shlex.quote(quoted)}") from error
    if several and key == "experiment":
        raise UserError(f"{argument!r} has several values: add --multirun, or for all of them at once {key}=[{value}]")
    if several:
        raise UserError(f"{argument!r} has several values: add --multirun, or as one value {shlex.quote(quoted)}")


def escape(value: str) -> str:
    """A value for double quotes in Hydra's grammar."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def explain(error: Exception) -> str:
    """Describe an error in composing the configuration in one line."""
    if isinstance(error, OmegaConfBaseException):
        return explain_unresolved(error)
    if isinstance(error, MissingConfigException):
        group, _, wrong = (error.missing_cfg_file or "").rpartition("/")
        for launcher, part, package in LAUNCHERS:
            if group == "hydra/launcher" and wrong == part:
                return f"hydra/launcher={launcher} needs {package}: install it with pip install -e '.[launchers]'"
        if options := [name for name in error.options or () if not name.startswith("_")]:
            return no_choice(group, wrong, options)
    cause = error.__cause__ or error.__context__
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem_mark.name}, line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, UnicodeDecodeError):
        return f"a file in conf/ (or --config-dir) isn't UTF-8 ({error.reason}, byte {error.start}): save it as UTF-8"
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        key = cause.full_key or "?"
        kind = cause.object_type.__name__ if cause.object_type is not None else ""
        if isinstance(cause, ConfigKeyError | AttributeError) and kind in TYPES:
            return no_option(key, TYPES[kind])
        if isinstance(cause, ValidationError) and (needed := needed_by(cause)):
            value = getattr(cause, "value", None)
            also = ", and tracking=none turns wandb off" if key == "wandb" else ""
            return f"{key}={value if isinstance(value, float) else written(value)}: {needed} is needed{also}"
        reason = str(cause).splitlines()[0]
        return f"{key}: {reason[0].lower()}{reason[1:]} (conf/ shows the type of every option)"
    return " ".join(str(error).split())


def no_choice(group: str, wrong: str, known: Iterable[str]) -> str:
    """The message for a choice that a group doesn't have."""
    if group == "method" and wrong in METHODS_ELSEWHERE:
        return f"{group}={wrong} doesn't exist: here it is {METHODS_ELSEWHERE[wrong]}"
    listed = LISTED.get(group, "python train.py --help lists all")
    return f"{group}={wrong} doesn't exist: {instead(wrong, known, listed)}"


def no_option(key: str, known: Iterable[str]) -> str:
    """The message for an option that doesn't exist. It names, in this order: an option of the same name in another
    section; ours, if the name is another tool's; options with similar names."""
    section, _, wrong = key.rpartition(".")
    there_is = f"there is no option {key}"
    if elsewhere := [f"{part}.{wrong}" for part, options in PARTS.items() if wrong in options and part != section]:
        return f"{there_is}: did you mean {' or '.join(elsewhere)}?"
    if section and wrong in TOP:
        return f"{there_is}: did you mean {wrong}?"
    if wrong in HERE:
        return f"{there_is}: here it is {HERE[wrong]}"
    alike = [name for name in get_close_matches(wrong, HERE, 1, 0.8) if key not in HERE[name]]
    if alike and not get_close_matches(wrong, known):
        return f"{there_is}: did you mean {alike[0]}? here it is {HERE[alike[0]]}"
    place = f"conf/{section}/" if (CONF / section).is_dir() and section else "conf/config.yaml"
    help_of = "python train.py method=NAME --help" if section == "method" else place
    return f"{there_is}: {instead(wrong, known, f'{help_of} explains all', f'{section}.' if section else '')}"


def needed_by(error: ValidationError) -> str | None:
    """What kind of value an option takes; None if that isn't known."""
    if is_dataclass(error.object_type):
        hint = get_type_hints(error.object_type).get(str(error.key))
    else:
        hint = (*get_args(error.ref_type), None, None)[1]  # a dictionary's values
    parts = [hint] if get_origin(hint) in KINDS else get_args(hint) or [hint]  # of `int | None` both
    kinds = [KINDS[kind] for part in parts if (kind := get_origin(part) or part) in KINDS]
    if is_dataclass(hint):
        return f"one of its options, {error.key}.NAME=VALUE,"
    null = " (or null)" if "null" in kinds else ""
    return f"{' or '.join(kind for kind in kinds if kind != 'null')}{null}" if kinds else None


def explain_unresolved(error: OmegaConfBaseException) -> str:
    """Describe a value that can't be read or resolved, such as an unset environment variable, in one line."""
    reason = str(error.__cause__ or error).splitlines()[0].strip('"')
    if not isinstance(error, InterpolationResolutionError):
        return f"{error.full_key or 'configuration'}: {reason}"
    values = OmegaConf.to_container(error.parent_node, resolve=False) if error.parent_node is not None else None
    raw = values.get(error.key) if isinstance(values, dict) else "${...}"
    return (
        f"{error.full_key}={raw} can't be resolved ({reason}): check the name, set the variable, or give another value"
    )
