"""Options: dataclass fields with a default, checks of their value and a line of help. Imports no torch."""

import json
import math
import re
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import field, fields
from difflib import SequenceMatcher
from types import NoneType
from typing import Any, get_args

from adalora.errors import UserError

Check = Callable[[Any], str | None]
"""Gives what is wrong with a value, such as "at least 1 is needed"; None where it is right."""


def option(default: Any, *checks: Check, help: str = "") -> Any:
    """A dataclass field.

    Args:
        default: its value; a list or dict is copied for every instance.
        checks: what a value must pass, None apart (`check_options`).
        help: unit, meaning of null, source of the default: what `train.py method=NAME --help` prints.
    """
    metadata = {"checks": checks, "help": help}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_options(node: Any, section: str) -> None:
    """Hold every field of a dataclass against its checks.

    Args:
        node: the dataclass.
        section: the key of its options' parent, empty at the top.

    Raises:
        UserError: with the option's key.
    """
    for each in fields(node):
        value = getattr(node, each.name)
        for check in each.metadata.get("checks", ()) if value is not None else ():
            if problem := check(value):
                key = f"{section}.{each.name}" if section else each.name
                shown = f"{value:g}" if isinstance(value, float) else value
                null = ", or null" if NoneType in get_args(each.type) else ""
                raise UserError(f"{key}={shown}: {problem}{null}")


def between(low: float, high: float) -> Check:
    """low <= value < high."""
    return lambda value: None if low <= value < high else f"must lie in [{low:g}, {high:g})"


def at_least(low: int) -> Check:
    """low <= value."""
    return lambda value: None if value >= low else f"at least {low} is needed"


def one_of(*values: Any) -> Check:
    """One of these."""
    return lambda value: None if value in values else f"allowed are {', '.join(map(str, values))}"


def positive(value: float) -> str | None:
    """0 < value < inf."""
    return None if 0 < value < math.inf else "must be positive and finite"


def not_negative(value: float) -> str | None:
    """0 <= value < inf."""
    return None if 0 <= value < math.inf else "must be finite and not negative"


def share(value: float) -> str | None:
    """0 <= value < 1."""
    return None if 0 <= value < 1 else "must lie in [0, 1)"


def folder_name(value: str) -> str | None:
    """A name that a folder can have anywhere."""
    good = re.fullmatch(r"\w[\w.%+-]*", value) is not None
    return (
        None if good else "it names a folder, so letters, digits and . _ - + % are allowed, the first a letter or digit"
    )


def written(value: Any) -> str:
    """An option's value as the command line, a row's name or a plan has it."""
    if isinstance(value, float) and value == float(f"{value:g}"):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"  # as the command line has it
    return value if isinstance(value, str) else json.dumps(value)


def require(good: bool, message: str) -> None:
    """Raise `UserError(message)` unless `good`."""
    if not good:
        raise UserError(message)


def nearest(wrong: str, allowed: Iterable[str]) -> str:
    """The allowed names, those most like `wrong` first."""
    return ", ".join(sorted(allowed, key=lambda name: -SequenceMatcher(None, wrong, name).ratio()))
