"""Text as the model's inputs: packed blocks for training, windows for scores.

An article is [BOS] text, with the tokenizer's EOS where none is BOS.

Training sees the articles one after another, each as BOS, its tokens, EOS, cut into blocks of `max_length` tokens.

Evaluation sees every article alone, as BOS and its tokens, in windows of `eval_length` tokens that start every
`eval_stride` tokens. A token is scored once, in the first window that has it, where it has the most context.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from tasks.causal.options import CausalTask
from tasks.causal.tokens import dataset, start_of
from tasks.columns import as_text, blank, needed, total

UNIQUE = "unique "  # prefix of the columns of `task.unique`


class Window(NamedTuple):
    """Tokens `first` to `last` (exclusive) of an article; the last `scored` of them count."""

    first: int
    last: int
    scored: int


def check_rows(raw: pa.Table, task: CausalTask, where: str) -> tuple[pa.Table, list[str]]:
    """Return the column `text` and those of `task.unique`, with a line about rows left out because they are empty.

    Raises:
        UserError: a column is missing, isn't text or has gaps.
    """
    needed(raw, [task.text, *task.unique], where, "rename it, or set task.text and task.unique")
    rows = pa.table({"text": as_text(raw, task.text, where)})
    for name in task.unique:
        rows = rows.append_column(f"{UNIQUE}{name}", as_text(raw, name, where))
    empty = blank(rows["text"])
    count = total(empty)
    return rows.filter(pc.invert(empty)), [f"left out: {count:,} with an empty text"] if count else []


def separate(tables: dict[str, pa.Table]) -> tuple[dict[str, pa.Table], list[str]]:
    """Drop each article that repeats one from an earlier split, or an earlier one of its own split. An article repeats
    another if a value in any column of `task.unique` is the same up to `normalise`; blank values don't count.

    Returns:
        The tables, with only the column `text`, and a line for each split and source of repeats.
    """
    seen: dict[str, dict[str, str]] = {}  # column -> value -> the first split that has it
    kept, notes = {}, []
    for split, table in tables.items():
        columns = {name: table[name].to_pylist() for name in table.column_names if name.startswith(UNIQUE)}
        left_out: Counter[str] = Counter()
        flags = []
        for row in zip(*columns.values(), strict=True) if columns else [()] * table.num_rows:
            values = {name: normalise(value) for name, value in zip(columns, row, strict=True) if value.strip()}
            first = next((at[value] for name, value in values.items() if value in (at := seen.get(name, {}))), None)
            flags.append(first is None)
            if first is not None:
                left_out[first] += 1
            for name, value in values.items():
                seen.setdefault(name, {}).setdefault(value, split)
        kept[split] = table.filter(pa.array(flags, pa.bool_())).select(["text"])
        notes += [
            f"{split}: left out: {count:,} that {'repeat others' if of == split else f'are in {of}'}"
            for of, count in left_out.items()
        ]
    return kept, notes


def normalise(value: str) -> str:
    """Text without differences of case, spacing and Unicode's compatible forms."""
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


def tokens_of(table: pa.Table, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The tokens of every article, without special ones."""
    return tokenizer(table["text"].to_pylist(), add_special_tokens=False, verbose=False)["input_ids"]


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
