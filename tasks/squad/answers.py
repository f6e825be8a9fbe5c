"""Logits to answers: the best span over all windows of a question, as array code.

docs/deviations.md: D-qa-candidates, D-best-threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from adalora.errors import UserError

if TYPE_CHECKING:
    import datasets

CHUNK = 1024  # windows at a time: bounds the memory, nothing else
Logits = Sequence[np.ndarray] | np.ndarray


class Spans(NamedTuple):
    """Candidates, ordered by row and, within it, from the best on; one array entry each."""

    row: np.ndarray
    score: np.ndarray  # start logit + end logit
    start: np.ndarray  # first character in the context
    end: np.ndarray  # the one behind the last


@dataclass(frozen=True)
class Answers:
    """What the model answers; one entry a row of the evaluated table."""

    ids: list[str]
    text: list[str]  # of the best span; "" where there is none
    score: np.ndarray  # of the best span; 0 where there is none
    null_score: np.ndarray  # of no answer; 0 where the row has no window
    spans: Spans  # the `n_best` of every row

    @property
    def null_odds(self) -> np.ndarray:
        """How much more speaks for no answer than for the best span: the difference of their scores."""
        return self.null_score - self.score

    def predictions(self, null_threshold: float | None) -> list[str]:
        """The texts; with a threshold (v2), "" where the null odds are above it."""
        if null_threshold is None:
            return self.text
        return ["" if odds > null_threshold else text for odds, text in zip(self.null_odds, self.text, strict=True)]


def find_answers(
    windows: datasets.Dataset,
    rows: pa.Table,
    start_logits: Logits,
    end_logits: Logits,
    n_best: int = 20,
    max_answer_length: int = 30,
) -> Answers:
    """The best span of every row: the highest start logit + end logit over all its windows.

    Candidates of a window: the `n_best` highest start logits with the `n_best` highest end logits, as far as both are
    tokens of the context, the end isn't before the start, the span has at most `max_answer_length` tokens, and it
    isn't blank. Of equal logits the earlier token ranks first; of equal spans the earlier window's, then the earlier
    start's, then the shorter. The null score is the lowest start + end logit of [CLS] over the row's windows: all of
    them must want no answer. Sums are in double precision. Row without any candidate: no text (D-qa-candidates).

    Args:
        windows: of `tasks.squad.windows.windows`, any subset, in any order.
        rows: the table that they came from.
        start_logits, end_logits: one array (at least `length`) a window, in its order; what follows is padding.
        n_best, max_answer_length: 20 and 30 in the released script (its defaults).

    Raises:
        UserError: logits that aren't finite.
    """
    columns = windows.with_format("arrow")[:]
    row, length, context = (columns[name].to_numpy() for name in ("row", "length", "context"))
    lists = columns["char_start"].combine_chunks()
    count = lists.value_lengths().to_numpy()
    char_start, char_end = (columns[name].combine_chunks().flatten().to_numpy() for name in ("char_start", "char_end"))
    base = np.cumsum(count) - count - context  # + token: its place in the flat arrays

    null_score = np.full(rows.num_rows, np.inf)
    chunks = []
    for first in range(0, len(row), CHUNK):
        part = slice(first, first + CHUNK)
        starts, ends = (padded(logits[part], length[part]) for logits in (start_logits, end_logits))
        np.minimum.at(null_score, row[part], starts[:, 0] + ends[:, 0])
        start, end = top(starts, n_best)[:, :, None], top(ends, n_best)[:, None, :]
        low, high = (bound[part, None, None] for bound in (context, context + count))
        valid = (start >= low) & (end < high) & (end >= start) & (end - start < max_answer_length)
        window, i, j = np.nonzero(valid)
        start, end = start[window, i, 0], end[window, 0, j]
        score = starts[window, start] + ends[window, end]
        window += first
        span = Spans(row[window], score, char_start[base[window] + start], char_end[base[window] + end])
        chunks.append([values[span.end > span.start] for values in span])  # a token of blanks has no text
    spans = ranked(Spans(*(np.concatenate(parts) for parts in zip(*chunks, strict=True))), n_best)

    best = firsts(spans.row)
    score, text = np.zeros(rows.num_rows), [""] * rows.num_rows
    score[spans.row[best]] = spans.score[best]
    contexts = rows["context"]
    for i, a, b in zip(*(values[best].tolist() for values in (spans.row, spans.start, spans.end)), strict=True):
        text[i] = contexts[i].as_py()[a:b].rstrip()  # the last token may be of blanks
    null_score[np.isinf(null_score)] = 0.0
    return Answers(rows["id"].to_pylist(), text, score, null_score, spans)


def padded(logits: Logits, lengths: np.ndarray) -> np.ndarray:
    """(windows, longest) in double precision, -inf behind each window's length."""
    matrix = np.full((len(lengths), lengths.max()), -np.inf)
    for line, values, length in zip(matrix, logits, lengths, strict=True):
        line[:length] = values[:length]
        if not np.isfinite(line[:length]).all():
            raise UserError("the model's start and end logits aren't finite, it has diverged: lower training.lr")
    return matrix


def top(values: np.ndarray, n: int) -> np.ndarray:
    """Places of the `n` highest values of every line, in order of place; of equal values the earlier."""
    return np.sort(np.argsort(-values, axis=1, kind="stable")[:, :n], axis=1)


def firsts(row: np.ndarray) -> np.ndarray:
    """Index of the first entry of every run of equal rows."""
    return np.flatnonzero(np.diff(row, prepend=-1))


def ranked(spans: Spans, n: int) -> Spans:
    """By row, then from the best on, at most `n` a row; equal ones stay in order."""
    order = np.lexsort((-spans.score, spans.row))
    row = spans.row[order]
    begins = firsts(row)
    rank = np.arange(len(row)) - np.repeat(begins, np.diff(begins, append=len(row)))
    return Spans(*(values[order[rank < n]] for values in spans))
