"""Read files and validate them: any fault is a `Damaged` error that names the file and the remedy.

The expected content is a type: a dataclass, TypedDict or pydantic model with its constraints. NaN and infinity are
accepted as Python writes them.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import AfterValidator, BaseModel, NonNegativeInt, TypeAdapter, ValidationError

from adalora.errors import UserError

T = TypeVar("T")
adapters: dict[Any, TypeAdapter[Any]] = {}
SEAL = "sha256"  # key of the checksum that a file has over its own content


class Damaged(UserError):
    """A file is missing, or can't be used.

    Args:
        path: the file.
        reason: why it can't be used.
        remedy: what the user can do, for the message.
        missing: whether it is missing.
    """

    def __init__(self, path: Path, reason: str, remedy: str, missing: bool = False) -> None:
        super().__init__(f"{path} {'is missing' if missing else f'is damaged ({reason})'}: {remedy}")
        self.path, self.reason, self.missing = path, reason, missing


def read_text(path: Path, remedy: str) -> str:
    """Read a text file. Raises `Damaged`."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise Damaged(path, "no such file", remedy, missing=True) from error
    except UnicodeDecodeError as error:
        raise Damaged(path, "not UTF-8 text", remedy) from error
    except OSError as error:
        raise Damaged(path, str(error.strerror).lower(), remedy) from error


def read_json(path: Path, kind: type[T], remedy: str) -> T:
    """Read a JSON file as `kind`, and verify its checksum (`sealed`) if it has one. Raises `Damaged`."""
    text = read_text(path, remedy)
    try:
        value = adapter(kind).validate_json(text, strict=True)
        if (raw := json.loads(text)) and isinstance(raw, dict) and SEAL in raw and raw[SEAL] != seal(raw):
            raise Damaged(path, "its checksum differs", remedy)
    except (ValidationError, ValueError, RecursionError) as error:
        raise Damaged(path, reason(error), remedy) from error
    return value


def read_dict(path: Path, kind: type[BaseModel], remedy: str) -> dict[str, Any]:
    """Read a JSON object that has at least the keys of `kind`, as a plain dictionary. Raises `Damaged`."""
    return read_json(path, cast(type[dict[str, Any]], Annotated[dict[str, Any], holds(kind)]), remedy)


def read_yaml(path: Path, kind: type[T]) -> T:
    """Read a YAML file of the repository as `kind`. Raises `Damaged`."""
    text, remedy = read_text(path, "restore it: it belongs to the repository"), "correct it"
    try:
        return adapter(kind).validate_python(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError, ValueError) as error:
        raise Damaged(path, reason(error), remedy) from error


@contextmanager
def library_reads(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises while reading a file into `Damaged`."""
    try:
        yield
    except (Damaged, MemoryError):
        raise
    except Exception as error:
        raise Damaged(path, reason(error), remedy) from error


class LogLine(BaseModel, extra="allow"):
    """A line of a run's log: the step, and numbers by name."""

    __pydantic_extra__: dict[str, float]
    step: NonNegativeInt

    @property
    def numbers(self) -> dict[str, float]:
        """Everything but the step."""
        return self.__pydantic_extra__


def read_lines(path: Path, tail: int | None = None) -> tuple[list[tuple[str, LogLine]], int]:
    """Read the valid lines of a log, each with its text, and count the invalid ones.

    Args:
        path: the log; a missing file has no lines.
        tail: read only this many bytes from the end.

    Raises:
        Damaged: the path isn't a file, or can't be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(0 if tail is None else max(0, os.fstat(file.fileno()).st_size - tail))
            texts = file.read().splitlines()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise Damaged(path, str(error.strerror).lower(), "remove it") from error
    found = []
    for text in texts:
        try:
            found.append((text.decode(), LogLine.model_validate_json(text, strict=True)))
        except (ValidationError, ValueError):
            continue
    return found, len(texts) - len(found)


@cache  # builds the validator once
def holds(kind: type[BaseModel]) -> AfterValidator:
    """A validator that requires the keys of `kind` in a dictionary and leaves the dictionary unchanged."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        try:
            kind.model_validate(value, strict=True)
        except ValidationError as error:
            raise ValueError(reason(error)) from error
        return value

    return AfterValidator(check)


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Add a checksum over the content to `value`, converted to plain JSON types."""
    plain = json.loads(json.dumps(value))
    return {**plain, SEAL: seal(plain)}


def seal(value: Mapping[str, Any]) -> str:
    """SHA-256 over the JSON with sorted keys and no whitespace, without the checksum itself."""
    content = {key: part for key, part in value.items() if key != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def adapter(kind: Any) -> TypeAdapter[Any]:
    """The pydantic adapter of a type, cached because building it is slow."""
    if kind not in adapters:
        adapters[kind] = TypeAdapter(kind)
    return adapters[kind]


def reason(error: BaseException) -> str:
    """A short description of an error."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        path = ".".join(map(str, first["loc"]))
        said = f"{first['msg'][:1].lower()}{first['msg'][1:]}".removeprefix("value error, ")
        return f"{path}: {said}" if path else said
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return next(iter(str(error).splitlines()), "") or type(error).__name__
