"""Read a column as what the task declares: text, number or label. The type that it is stored in doesn't matter."""

import json
import math
import unicodedata
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from adalora.errors import UserError
from tasks.formats import MIXED

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""Spellings of YAML's booleans: `labels: [no, yes]` arrives as False and True."""


def needed(raw: pa.Table, columns: Sequence[str], where: str, remedy: str) -> None:
    """Check that columns exist. Raises `UserError`, which names those there are."""
    for name in columns:
        if name not in raw.column_names:
            there = ", ".join(map(repr, raw.column_names))
            raise UserError(f"{where} has no column {name!r} (it has {there}): {remedy}")


def as_text(raw: pa.Table, name: str, where: str) -> pa.ChunkedArray:
    """A column as text: numbers, dates and booleans as they are written in a file.

    Raises:
        UserError: it has nulls, lists or objects, or isn't UTF-8.
    """
    values = raw[name]
    if raw.schema.field(name).metadata == MIXED:
        raise UserError(f"{where}: column {name!r} must be text, and some rows have a list or an object")
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if pa.types.is_floating(kind):
        values = pc.if_else(pc.is_nan(values), None, values)
    if values.null_count:
        first = pc.index(pc.is_null(values), True).as_py()
        raise UserError(
            f"{where}: {values.null_count:,} rows have a gap in column {name!r} (first: row {first} from 0): fill it"
        )
    if pa.types.is_nested(kind):
        raise UserError(f"{where}: column {name!r} must be text (it is {kind})")
    try:
        values.validate(full=True)
        if pa.types.is_floating(kind):
            return pa.chunked_array([pa.array(map(str, values.to_numpy()), pa.string())])
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{where}: column {name!r} is not UTF-8 text ({str(error).splitlines()[0]})") from error


def filled(raw: pa.Table, name: str, where: str) -> pa.ChunkedArray:
    """A column of labels or numbers as text, of which every row has one. Raises `UserError`."""
    values = raw[name]
    missing = values.null_count
    if not missing:
        values = as_text(raw, name, where)
        missing = total(blank(values))
    if missing:
        raise UserError(f"{where}: {missing:,} rows have no {name}")
    return values


def blank(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which texts are empty but for white space."""
    return pc.equal(pc.utf8_trim_whitespace(values), "")


def total(flags: pa.ChunkedArray) -> int:
    """Count the true values."""
    return pc.sum(flags).as_py() or 0


def as_numbers(raw: pa.Table, name: str, where: str, low: float, high: float) -> pa.ChunkedArray:
    """A column as 32-bit floats within [low, high]. Raises `UserError`."""
    values = raw[name]
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        values = filled(raw, name, where)
    elif values.null_count:
        raise UserError(f"{where}: {values.null_count:,} rows have no {name}")
    found = [number(str(value)) for value in values.to_pylist()]
    if None in found:
        wrong = values[found.index(None)].as_py()
        raise UserError(f"{where}: {name} must be a finite number, and {wrong!r} is none")
    values = pa.chunked_array([pa.array(found, pa.float32())])
    bad = values.filter(pc.invert(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))))
    if len(bad):
        raise UserError(f"{where}: {name} {bad[0].as_py():g} in {len(bad)} rows is outside [{low:g}, {high:g}]")
    return values


def as_labels(raw: pa.Table, name: str, where: str, labels: Sequence[str]) -> pa.ChunkedArray:
    """A column as class ids, the places in `labels`.

    A value is the label that is written so; else the only one of the same number (`1.0` and `1`) or truth value (`no`
    and `False`). If no label is a number, whole numbers are class ids.

    Raises:
        UserError: a value is missing or unknown.
    """
    values = filled(raw, name, where)
    distinct = pc.unique(values).to_pylist()
    known = {label: i for i, label in enumerate(labels)}
    alike: dict[object, list[int]] = {}
    for label, i in known.items():
        alike.setdefault(meaning(label), []).append(i)
    ids: dict[str, int] = {}
    for value in distinct:
        same = alike.get(meaning(value), [])
        if value in known or len(same) == 1:
            ids[value] = known.get(value, same[0] if same else -1)
    if unknown := [value for value in distinct if value not in ids]:
        numbered = [number(text) is not None for text in labels]
        whole = [(found := number(value)) is not None and found.is_integer() for value in unknown]
        if ids or any(numbered) or not all(whole):
            raise UserError(f"{where}: unknown {name} {unknown[0]!r}, allowed are {', '.join(map(repr, labels))}")
        ids = {value: int(float(value)) for value in unknown}
        if bad := [value for value, i in ids.items() if not 0 <= i < len(labels)]:
            rows = pc.sum(pc.is_in(values, pa.array(bad))).as_py()
            hint = " (-1 marks a split without labels)" if ids[bad[0]] == -1 else ""
            raise UserError(f"{where}: {name} {bad[0]} in {rows} rows is out of range 0 to {len(labels) - 1}{hint}")
    places = pa.array([ids[value] for value in distinct], pa.int64())
    return places.take(pc.index_in(values, value_set=pa.array(distinct, pa.string())))


def meaning(text: str) -> object:
    """What a label means if it is a number or a truth value, else the text, whichever way its accents are encoded."""
    if text.casefold() in BOOLEANS:
        return ("truth", BOOLEANS[text.casefold()])
    value = number(text)
    return unicodedata.normalize("NFC", text) if value is None else ("number", value)


def number(text: str) -> float | None:
    """The finite number that a text is, in digits of ASCII without Python's `_`."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and text.isascii() and "_" not in text else None


def class_names(raw: pa.Table, column: str) -> list[str] | None:
    """The label names that `datasets` stores in the schema, if any."""
    try:
        names = json.loads((raw.schema.metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, ValueError, TypeError):  # another writer's metadata
        return None
    return names if isinstance(names, list) else None
