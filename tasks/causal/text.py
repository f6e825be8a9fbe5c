"""Text as the model's inputs: packed blocks for training, windows for scores.

An article is [BOS] text, with the tokenizer's EOS where none is BOS.

Training sees the articles one after another, each as BOS, its tokens, EOS, cut into blocks of `max_length` tokens.

Evaluation sees every article alone, as BOS and its tokens, in windows of `eval_length` tokens that start every
`eval_stride` tokens. A token is scored once, in the first window that has it, where it has the most context.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from adalora.errors import UserError
from tasks.causal.options import CausalTask
from tasks.columns import as_text, blank, needed, total

if TYPE_CHECKING:
    import datasets


class Window(NamedTuple):
    """Tokens `first` to `last` (exclusive) of an article; the last `scored` of them count."""

    first: int
    last: int
    scored: int


def check_rows(raw: pa.Table, task: CausalTask, where: str) -> tuple[pa.Table, list[str]]:
    """Return the column `text`, with a line about rows left out because they are empty. Raises `UserError`."""
    needed(raw, [task.text], where, "rename it, or set task.text")
    rows = pa.table({"text": as_text(raw, task.text, where)})
    empty = blank(rows["text"])
    count = total(empty)
    return rows.filter(pc.invert(empty)), [f"left out: {count:,} with an empty text"] if count else []


def tokens_of(table: pa.Table, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The tokens of every article, without special ones."""
    return tokenizer(table["text"].to_pylist(), add_special_tokens=False, verbose=False)["input_ids"]


def start_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token before a text: BOS, or EOS where the tokenizer has no BOS. Raises `UserError` if it has neither."""
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if start is None:
        raise UserError("the tokenizer has neither a BOS nor an EOS token: a language model needs one")
    return start


def blocks(table: pa.Table, tokenizer: PreTrainedTokenizerBase, size: int) -> datasets.Dataset:
    """Columns `input_ids` and `length` of packed blocks; the last one may be shorter."""
    start, end = start_of(tokenizer), tokenizer.eos_token_id
    stream: list[int] = []
    for ids in tokens_of(table, tokenizer):
        stream += [start, *ids, *([] if end in (None, start) else [end])]
    cut = [stream[i : i + size] for i in range(0, len(stream), size)]
    return dataset({"input_ids": [block for block in cut if len(block) > 1]})


def windows(table: pa.Table, tokenizer: PreTrainedTokenizerBase, size: int, stride: int) -> datasets.Dataset:
    """Columns `input_ids`, `length`, `scored` and `article`, the article's row."""
    start = start_of(tokenizer)
    found: dict[str, list] = {"input_ids": [], "scored": [], "article": []}
    for row, ids in enumerate(tokens_of(table, tokenizer)):
        article = [start, *ids]
        for window in windows_of(len(article), size, stride):
            found["input_ids"].append(article[window.first : window.last])
            found["scored"].append(window.scored)
            found["article"].append(row)
    return dataset(found)


def windows_of(count: int, size: int, stride: int) -> Iterator[Window]:
    """The windows of an article of `count` tokens, the first of which isn't scored."""
    done = 1
    for first in range(0, count, stride):
        last = min(first + size, count)
        if last > done:
            yield Window(first, last, last - done)
        done = last
        if last == count:
            return


def dataset(columns: dict[str, list]) -> datasets.Dataset:
    """The columns, with the length of each row."""
    from datasets import Dataset  # import takes half a second
    from datasets.table import InMemoryTable

    return Dataset(InMemoryTable(pa.table(columns | {"length": [len(ids) for ids in columns["input_ids"]]})))
