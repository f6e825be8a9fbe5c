"""Tokenise questions and contexts to windows: [CLS] question [SEP] part of the context [SEP].

docs/deviations.md: D-qa-labels.
"""

import sys
import unicodedata
from itertools import chain
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.table import InMemoryTable
from transformers import PreTrainedTokenizerBase

from adalora.errors import UserError

BATCH = 1000  # rows per tokeniser call
BLANKS = np.array(
    [code for code in range(0x3001) if chr(code).isspace()], dtype=np.uint32
)  # Unicode's last space is 0x3000


def windows(rows: pa.Table, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int) -> datasets.Dataset:
    """All windows of all rows, in order. A row whose question leaves no room for context has none (`without_window`).

    A context that doesn't fit is split into windows that overlap by `stride` tokens (the released script's `doc_stride`
    as current tokenizers interpret it). Columns, one entry per window:

    - `input_ids`; `length`, their number; `row`, the index of the row;
    - `start`, `end`: first and last token of the row's first answer; both 0, the position of [CLS], if the window
      doesn't contain all of it or there is none;
    - `context`: index of the first context token; `char_start`, `char_end`: the characters of each context token,
      without leading whitespace and with the combining marks that follow.

    Leading whitespace of the question is removed: it has no meaning, and byte-level tokenizers would spend tokens on
    it.

    Args:
        rows: columns id, question, context, answers (`tasks.squad.rows.check_rows`).
        tokenizer: any fast tokenizer.
        max_length: tokens per window, including special ones.
        stride: overlap of neighbouring windows, in tokens.

    Raises:
        UserError: no row has room for a window.
    """
    questions = [question.lstrip() for question in rows["question"].to_pylist()]
    asked = tokenizer(questions, add_special_tokens=False)["input_ids"]
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - np.array([len(ids) for ids in asked])
    fits = room > stride  # otherwise the next window would start where this one does
    if tight := np.flatnonzero(~fits).tolist():
        uncut = tokenizer(rows["context"].take(tight).to_pylist(), add_special_tokens=False)["input_ids"]
        fits[tight] = [len(ids) <= n for ids, n in zip(uncut, room[tight], strict=True)]
    if not fits.any():
        raise UserError(
            f"task.max_length={max_length} leaves no question more than task.stride={stride} tokens for its context: "
            "raise task.max_length or lower task.stride"
        )
    kept, parts = np.flatnonzero(fits), []
    for i in range(0, len(kept), BATCH):
        batch = kept[i : i + BATCH]
        table = rows.take(pa.array(batch))
        encoded = tokenizer(
            [questions[row] for row in batch],
            table["context"].to_pylist(),
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        parts.append(columns(table, encoded, batch))
    return datasets.Dataset(InMemoryTable(pa.concat_tables(parts).combine_chunks()))


def without_window(rows: pa.Table, found: datasets.Dataset) -> list[str]:
    """The ids of rows without a window."""
    have = np.zeros(rows.num_rows, dtype=bool)
    have[found.with_format("numpy")["row"][:]] = True
    return rows["id"].filter(pa.array(~have)).to_pylist()


def columns(table: pa.Table, encoded: Any, indices: np.ndarray) -> pa.Table:
    """Build the windows' columns from a batch of rows, its encoding, and the rows' indices."""
    ids, row = encoded["input_ids"], np.array(encoded["overflow_to_sample_mapping"])
    parts = [encoded.sequence_ids(i) for i in range(len(ids))]
    count = np.array([part.count(1) for part in parts])
    context = np.array([part.index(1) if n else 0 for part, n in zip(parts, count, strict=True)])
    offsets = chain.from_iterable(
        chain.from_iterable(spans[i : i + n])
        for spans, i, n in zip(encoded["offset_mapping"], context, count, strict=True)
    )
    char_start, char_end = np.fromiter(offsets, dtype=np.int32).reshape(-1, 2).T
    owner = np.repeat(np.arange(len(ids)), count)  # the window of every context token
    texts = table["context"].to_pylist()
    char_start = without_blanks(texts, row[owner], char_start, char_end)
    char_end = with_marks(texts, row[owner], owner, char_start, char_end)
    start, end = labels(answer_spans(table)[row], owner, context, count, char_start, char_end)
    length = np.array([len(window) for window in ids])
    return pa.table(
        {
            "input_ids": ragged(np.fromiter(chain.from_iterable(ids), dtype=np.int32), length),
            "length": length,
            "row": indices[row],
            "start": start,
            "end": end,
            "context": context,
            "char_start": ragged(char_start, count),
            "char_end": ragged(char_end, count),
        }
    )


def ragged(values: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    """Split the values into consecutive lists of these lengths."""
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), type=pa.int32()), pa.array(values))


def without_blanks(texts: list[str], owner: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Move every token's `start` past leading whitespace, which SentencePiece and byte-level BPE include.

    Args:
        texts: the contexts.
        owner: the text of each token.
        start, end: the characters of each token.
    """
    codes, bases = characters(texts)
    return np.minimum(past(np.isin(codes, BLANKS), bases[owner] + start) - bases[owner], end).astype(np.int32)


def with_marks(
    texts: list[str], owner: np.ndarray, window: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Move every token's `end` past the combining marks that follow, up to the next token: tokenizers that compose or
    drop accents leave them out, and an answer that ends in one would have no last token.

    Args:
        texts, owner, start, end: as in `without_blanks`.
        window: the window of each token.
    """
    codes, bases = characters(texts)
    marks = [code for code in np.unique(codes).tolist() if unicodedata.category(chr(code)).startswith("M")]
    if not marks or not len(end):
        return end
    reach = past(np.isin(codes, marks), bases[owner] + end) - bases[owner]
    following = np.append(start[1:], len(codes))
    following[np.append(window[1:] != window[:-1], True)] = len(codes)  # none in this window
    return np.maximum(end, np.minimum(reach, following)).astype(np.int32)


def characters(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The code points of all texts, with a full stop after each, and where each text begins."""
    codes = np.frombuffer("".join(text + "." for text in texts).encode("utf-32-le"), dtype=np.uint32)
    return codes, np.cumsum([0, *(len(text) + 1 for text in texts)])


def past(flags: np.ndarray, places: np.ndarray) -> np.ndarray:
    """From each place the next one without a flag."""
    free = np.where(flags, len(flags), np.arange(len(flags)))
    return np.minimum.accumulate(free[::-1])[::-1][places]


def answer_spans(table: pa.Table) -> np.ndarray:
    """(rows, 2): first and one-past-last character of every row's first answer, stripped; -1 without an answer."""
    spans = np.full((table.num_rows, 2), -1)
    for i, answers in enumerate(table["answers"].to_pylist()):
        if answers["text"]:
            text = answers["text"][0]
            begin = answers["answer_start"][0] + len(text) - len(text.lstrip())
            spans[i] = begin, begin + len(text.strip())
    return spans


def labels(
    answers: np.ndarray,
    owner: np.ndarray,
    context: np.ndarray,
    count: np.ndarray,
    char_start: np.ndarray,
    char_end: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """First and last token (windows,) of every window's answer; 0, 0 if the window doesn't contain all of it.

    From the first token that overlaps the answer to the last (D-qa-labels).

    Args:
        answers: (windows, 2), first and one-past-last character; -1 without an answer.
        owner: (context tokens of all windows,), the window of each token.
        context, count: (windows,), first context token and number of context tokens.
        char_start, char_end: (context tokens of all windows,), the characters of each token.
    """
    begin, behind = answers[owner].T
    place = context[owner] + np.arange(len(owner)) - (np.cumsum(count) - count)[owner]
    hit = np.flatnonzero((char_end > begin) & (char_start < behind))
    start, end = np.full(len(context), sys.maxsize), np.full(len(context), -1)
    np.minimum.at(start, owner[hit], place[hit])
    np.maximum.at(end, owner[hit], place[hit])
    reach = np.full((len(context), 2), -1)  # characters covered by the window's context tokens
    reach[owner[::-1], 0] = char_start[::-1]  # the last assignment per window wins
    reach[owner, 1] = char_end
    whole = (end >= 0) & (reach[:, 0] <= answers[:, 0]) & (answers[:, 1] <= reach[:, 1])
    return np.where(whole, start, 0), np.where(whole, end, 0)
