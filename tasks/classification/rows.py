"""Check and tokenise the rows of a classification or regression task."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from adalora.errors import UserError
from tasks.classification.options import ClassificationTask
from tasks.data import text_column

if TYPE_CHECKING:
    import datasets


def checked(raw: pa.Table, task: ClassificationTask, where: str) -> pa.Table:
    """Check every row, and return the task's columns, with labels as ids or floats.

    Raises:
        UserError: a row isn't valid; the message says where and why.
    """
    for column in [*task.text, task.label]:
        if column not in raw.column_names:
            raise UserError(
                f"{where} has no column {column} (it has {', '.join(raw.column_names)}): "
                "rename it, or set task.text and task.label"
            )
    columns = {}
    for i, name in enumerate(task.text, start=1):
        columns[f"text_{i}"] = text_column(raw, name, where)
    columns["label"] = checked_labels(raw, task, where)
    return pa.table(columns)


def checked_labels(raw: pa.Table, task: ClassificationTask, where: str) -> pa.ChunkedArray:
    """Convert labels to ids in the order of `task.labels`, or to floats within `task.label_range`.

    A text is a class name, and so are true and false in any case. A number is a class id or, if all of `task.labels`
    are numbers, a class name.
    """
    values = raw[task.label]
    if values.null_count:
        raise UserError(f"{where}: {values.null_count} rows have no {task.label}")
    if task.labels is None:
        low, high = task.label_range or (float("-inf"), float("inf"))
        try:
            values = values.cast(pa.float32())
        except pa.ArrowInvalid as error:
            raise UserError(f"{where}: {task.label} must be a number") from error
        bad = values.filter(pc.invert(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))))
        if len(bad):  # also true for NaN
            raise UserError(
                f"{where}: {task.label} {bad[0].as_py():g} in {len(bad)} rows is outside [{low:g}, {high:g}]"
            )
        return values
    stored = class_names(raw, task.label)
    if stored is not None and stored != task.labels:
        raise UserError(f"{where}: labels are named {stored}, task={task.name} expects {task.labels} in this order")
    names: list[str] | list[int] | None = None
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        names = task.labels
    elif pa.types.is_boolean(values.type):  # what readers make of a CSV's true and false
        names, values = [name.lower() for name in task.labels], values.cast(pa.string())
    elif pa.types.is_integer(values.type) and all(name.lstrip("-").isdecimal() for name in task.labels):
        names, values = [int(name) for name in task.labels], values.cast(pa.int64())
    if names is not None:
        ids = pc.index_in(values, value_set=pa.array(names, type=values.type))
        if ids.null_count:
            unknown = pc.unique(values.filter(pc.is_null(ids)))[0]
            raise UserError(f"{where}: unknown {task.label} {unknown}, allowed are {', '.join(task.labels)}")
        return ids.cast(pa.int64())
    if not pa.types.is_integer(values.type):
        raise UserError(f"{where}: {task.label} is {values.type}, class ids or names are needed")
    bad = values.filter(pc.or_(pc.less(values, 0), pc.greater_equal(values, len(task.labels))))
    if len(bad):
        hint = " (-1 marks a split without labels)" if bad[0].as_py() == -1 else ""
        raise UserError(
            f"{where}: {task.label} {bad[0]} in {len(bad)} rows is out of range 0 to {len(task.labels) - 1}{hint}"
        )
    return values.cast(pa.int64())


def class_names(raw: pa.Table, column: str) -> list[str] | None:
    """The label names that `datasets` stores in the schema, if any."""
    metadata = (raw.schema.metadata or {}).get(b"huggingface")
    if not metadata:
        return None
    return json.loads(metadata).get("info", {}).get("features", {}).get(column, {}).get("names")


def features(table: pa.Table, tokenizer: PreTrainedTokenizerBase, max_length: int) -> datasets.Dataset:
    """`input_ids` (at most `max_length` with special tokens; the longer text is truncated first), `label`, `length`."""
    texts = [column for column in ("text_1", "text_2") if column in table.column_names]

    def encode(rows: dict[str, list[str]]) -> dict[str, list]:
        ids = tokenizer(*(rows[text] for text in texts), truncation=True, max_length=max_length)["input_ids"]
        return {"input_ids": ids, "length": [len(row) for row in ids]}

    from datasets import Dataset  # import takes half a second
    from datasets.table import InMemoryTable

    rows = Dataset(InMemoryTable(table))
    return rows.map(encode, batched=True, remove_columns=texts, keep_in_memory=True)
