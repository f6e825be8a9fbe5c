"""Explain command-line mistakes in one line: what is wrong, and what is allowed, nearest first."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from adalora.config import schema
from adalora.config.usage import names
from adalora.errors import UserError
from adalora.methods.discovery import METHODS
from adalora.options import nearest
from adalora.places import CONF
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


def check_arguments(arguments: Sequence[str]) -> None:
    """Reject what Hydra only prints a traceback for: a number or null as a group's choice (`budget=0.3`), and
    `--multirun` with `--cfg` or `--info`.

    Raises:
        UserError: the message says what is allowed.
    """
    names_given = {argument.partition("=")[0] for argument in arguments}
    shows = names_given & {"--cfg", "-c", "--info", "-i"}
    if shows and names_given & {"--multirun", "-m"}:
        raise UserError(f"{min(shows)} shows a single run's configuration: leave --multirun out")
    for argument in arguments:
        group, given, values = argument.partition("=")
        for value in values.split(","):
            if group and given and (CONF / group).is_dir() and no_name(value):
                raise UserError(f"{group}={value} doesn't exist: allowed are {nearest(value, names(group))}")


def no_name(text: str) -> bool:
    """Whether YAML would read it as a number or null."""
    if text in ("null", ""):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def explained(error: Exception) -> str:
    """Describe an error in composing the configuration in one line."""
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
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} can't be read: overrides are key=value, and values with spaces or braces need quotes"
        )
    return " ".join(str(error).split())
