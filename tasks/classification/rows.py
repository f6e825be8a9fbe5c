"""Check and tokenise the rows of a classification or regression task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from adalora.errors import UserError
from tasks.classification.options import ClassificationTask
from tasks.columns import as_labels, as_numbers, as_text, blank, class_names, meaning, needed, total

if TYPE_CHECKING:
    import datasets


def check_rows(raw: pa.Table, task: ClassificationTask, where: str) -> tuple[pa.Table, list[str]]:
    """Check every row, and return the task's columns, with labels as ids or floats, and a line for blank texts and for
    classes without a row.

    Raises:
        UserError: a row isn't valid; the message says where and why.
    """
    needed(raw, [*task.text, task.label], where, "rename it, or set task.text and task.label")
    columns = {f"text_{i}": as_text(raw, name, where) for i, name in enumerate(task.text, start=1)}
    counts = {name: total(blank(texts)) for name, texts in zip(task.text, columns.values(), strict=True)}
    notes = [f"{count:,} rows have a blank {name}" for name, count in counts.items() if count]
    if task.labels is None:
        low, high = task.label_range or (float("-inf"), float("inf"))
        return pa.table(columns | {"label": as_numbers(raw, task.label, where, low, high)}), notes
    stored = class_names(raw, task.label)
    if stored is not None and [*map(meaning, map(str, stored))] != [*map(meaning, task.labels)]:
        raise UserError(f"{where}: labels are named {stored}, task={task.name} expects {task.labels} in this order")
    ids = as_labels(raw, task.label, where, task.labels)
    there = set(pc.unique(ids).to_pylist())
    absent = [name for i, name in enumerate(task.labels) if i not in there]
    notes += [f"no row is {' or '.join(map(repr, absent))}"] if absent else []
    return pa.table(columns | {"label": ids}), notes


def features(table: pa.Table, tokenizer: PreTrainedTokenizerBase, max_length: int) -> datasets.Dataset:
    """`input_ids` (at most `max_length` with special tokens; the longer text is truncated first), `label`, `length`,
    and whether the row is `cut`."""
    texts = [column for column in ("text_1", "text_2") if column in table.column_names]

    def encode(rows: dict[str, list[str]]) -> dict[str, list]:
        found = tokenizer(*(rows[text] for text in texts), truncation=True, max_length=max_length)
        ids = found["input_ids"]
        cut = [bool(encoding.overflowing) for encoding in found.encodings or ()]
        return {"input_ids": ids, "length": [len(row) for row in ids], "cut": cut}

    from datasets import Dataset  # import takes half a second
    from datasets.table import InMemoryTable

    rows = Dataset(InMemoryTable(table))
    return rows.map(encode, batched=True, remove_columns=texts, keep_in_memory=True)


def notes(rows: datasets.Dataset, max_length: int) -> list[str]:
    """Say how many rows of `features` are cut, if any are."""
    cut = total(rows.data["cut"])
    share = f"{cut:,} of {len(rows):,} texts ({cut / len(rows):.1%})"
    return [f"{share} are truncated to task.max_length={max_length} tokens"] if cut else []
