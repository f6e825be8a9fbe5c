"""Options as dataclass fields with a default, checks and a help line."""

import json
import math
import re
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import field, fields
from difflib import SequenceMatcher
from string import Formatter
from types import NoneType
from typing import Any, get_args

from adalora.errors import UserError

FEW = 8  # names that fit into a message
ALIKE = 0.6  # similarity of a name that may have been meant (difflib's own default)
Check = Callable[[Any], str | None]
"""Says what is wrong with a value, such as "at least 1 is needed"; None if it is valid."""


def option(default: Any, *checks: Check, help: str = "") -> Any:
    """A dataclass field.

    Args:
        default: the default; a list or dict is copied for every instance.
        checks: run on every value but None (`check_options`).
        help: unit, meaning of null and source of the default, as printed by `train.py method=NAME --help`.
    """
    metadata = {"checks": checks, "help": help}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_options(node: Any, section: str) -> None:
    """Run the checks of every field of a dataclass.

    Args:
        node: the dataclass.
        section: the dotted key of the dataclass, empty at the top level.

    Raises:
        UserError: a check failed; the message has the option's key.
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


share = between(0, 1)


def folder_name(value: str) -> str | None:
    """A name that is valid for a folder on any system."""
    good = re.fullmatch(r"\w[\w.%+-]*", value) is not None
    return (
        None if good else "it names a folder, so letters, digits and . _ - + % are allowed, the first a letter or digit"
    )


def written(value: Any) -> str:
    """Format an option's value as the command line, table rows and plans show it."""
    if isinstance(value, float) and value == float(f"{value:g}"):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"  # as on the command line
    return value if isinstance(value, str) else json.dumps(value)


def as_number(text: str) -> float | None:
    """A number, also as 1e-2, which YAML takes for a text."""
    try:
        return float(text)
    except ValueError:
        return None


def key_of(override: str) -> str:
    """The option that an override sets."""
    return override.lstrip("+~").partition("=")[0]


def require(good: bool, message: str) -> None:
    """Raise `UserError(message)` unless `good`."""
    if not good:
        raise UserError(message)


def names_in(pattern: str) -> set[str]:
    """The names in braces in a pattern; the pattern itself if its braces don't match."""
    try:
        return {name for _, name, *_ in Formatter().parse(pattern) if name is not None}
    except ValueError:
        return {pattern}


def instead(wrong: str, names: Iterable[str], listed: str, prefix: str = "") -> str:
    """What is allowed instead of a wrong name: a few names, nearest first; of many those that are alike, with `prefix`,
    and `listed`, a sentence about where all are."""
    known = sorted(names, key=lambda name: -SequenceMatcher(None, wrong, name).ratio())
    if len(known) <= FEW:
        return f"allowed are {', '.join(known)}"
    word, lower = wrong.lower(), {name: name.lower() for name in known}
    alike = [n for n, low in lower.items() if word in low or SequenceMatcher(None, word, low).ratio() >= ALIKE]
    return f"did you mean {' or '.join(prefix + name for name in alike[:3])}? {listed}" if alike else listed
