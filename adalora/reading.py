"""Files read back with distrust: whatever is wrong with one is a `Damaged` that names the file and the remedy.

A type says what a file holds: a dataclass, TypedDict or pydantic model, whose limits are part of it. NaN and
infinity are read as Python writes them.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from adalora.errors import UserError

T = TypeVar("T")
adapters: dict[Any, TypeAdapter[Any]] = {}
SEAL = "sha256"  # the key of a file's checksum over its own content


class Damaged(UserError):
    """A file that can't be what it should be. `missing` where there is none.

    Args:
        path: the file.
        reason: what is wrong.
        remedy: what the user can do.
    """

    def __init__(self, path: Path, reason: str, remedy: str, missing: bool = False) -> None:
        super().__init__(f"{path} {'is missing' if missing else f'is damaged ({reason})'}: {remedy}")
        self.reason, self.missing = reason, missing


def read_text(path: Path, remedy: str) -> str:
    """A file's text. Raises `Damaged`."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise Damaged(path, "no such file", remedy, missing=True) from error
    except UnicodeDecodeError as error:
        raise Damaged(path, "not UTF-8 text", remedy) from error
    except OSError as error:
        raise Damaged(path, str(error.strerror).lower(), remedy) from error


def read_json(path: Path, kind: type[T], remedy: str) -> T:
    """What a JSON file holds, as `kind`; a checksum (`sealed`) is checked where there is one. Raises `Damaged`."""
    text = read_text(path, remedy)
    try:
        value = adapter(kind).validate_json(text)
        if (raw := json.loads(text)) and isinstance(raw, dict) and SEAL in raw and raw[SEAL] != seal(raw):
            raise Damaged(path, "its checksum differs", remedy)
    except (ValidationError, ValueError, RecursionError) as error:
        raise Damaged(path, reason(error), remedy) from error
    return value


def read_lines(path: Path, kind: type[T]) -> list[tuple[str, T]]:
    """The lines of a log that can be read, each as its text and as `kind`. Raises `Damaged` where it isn't a file."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Damaged(path, str(error.strerror).lower(), "remove it") from error
    found = []
    for line in lines:
        try:
            found.append((line.decode(), adapter(kind).validate_json(line)))
        except (ValidationError, ValueError):
            continue
    return found


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """`value` as JSON has it, with a checksum over its content."""
    plain = json.loads(json.dumps(value))
    return {**plain, SEAL: seal(plain)}


def seal(value: Mapping[str, Any]) -> str:
    """sha256 over JSON with sorted keys and no blanks, the checksum itself left out."""
    content = {key: part for key, part in value.items() if key != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def adapter(kind: Any) -> TypeAdapter[Any]:
    """pydantic's reader of a type, which takes a while to build."""
    if kind not in adapters:
        adapters[kind] = TypeAdapter(kind)
    return adapters[kind]


def reason(error: Exception) -> str:
    """What is wrong, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    return next(iter(str(error).splitlines()), "") or type(error).__name__
