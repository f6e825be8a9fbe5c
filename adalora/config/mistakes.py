"""Explain command-line mistakes in one line: what is wrong, and what is allowed, nearest first."""

import shlex
from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, InterpolationResolutionError, OmegaConfBaseException

from adalora.config import schema
from adalora.config.usage import names
from adalora.errors import UserError
from adalora.methods.discovery import METHODS
from adalora.options import nearest
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


def check_arguments(arguments: Sequence[str]) -> None:
    """Reject what Hydra only prints a traceback for: a number or null as a group's choice (`budget=0.3`), and
    `--multirun` with `--cfg` or `--info`; and what it can't read, with the form that works.

    Raises:
        UserError: the message says what is allowed.
    """
    names_given = {argument.partition("=")[0] for argument in arguments}
    shows = names_given & {"--cfg", "-c", "--info", "-i"}
    if shows and names_given & {"--multirun", "-m"}:
        raise UserError(f"{min(shows)} shows a single run's configuration: leave --multirun out")
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument.startswith("-") and before not in WITH_VALUE:
            check_override(argument, sweeping=bool(names_given & {"--multirun", "-m"}))
        group, given, values = argument.partition("=")
        for value in values.split(","):
            if group and given and (CONF / group).is_dir() and no_name(value):
                raise UserError(f"{group}={value} doesn't exist: allowed are {nearest(value, names(group))}")


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
        raise UserError(f"{argument!r} can't be read, its value needs quotes: {shlex.quote(quoted)}") from error
    if several:
        raise UserError(f"{argument!r} has several values: add --multirun, or as one value {shlex.quote(quoted)}")


def escape(value: str) -> str:
    """A value for double quotes in Hydra's grammar."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def no_name(text: str) -> bool:
    """Whether YAML would read it as a number or null."""
    if text in ("null", ""):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


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
            return f"{group}={wrong} doesn't exist: allowed are {nearest(wrong, options)}"
    cause = error.__cause__
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        key = cause.full_key or "?"
        reason = str(cause).splitlines()[0]
        kind = cause.object_type.__name__ if cause.object_type is not None else ""
        if isinstance(cause, ConfigKeyError | AttributeError) and kind in TYPES:
            parent, _, wrong = key.rpartition(".")
            return f"there is no option {key}: {parent or 'the configuration'} has {nearest(wrong, TYPES[kind])}"
        return f"{key}: {reason[0].lower()}{reason[1:]} (conf/ shows the type of every option)"
    return " ".join(str(error).split())


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
