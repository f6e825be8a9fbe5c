"""Find the best answer span over all windows of a question, vectorised.

docs/deviations.md: D-qa-candidates, D-best-threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa

from adalora.errors import UserError
from adalora.files.writing import write_json

CHUNK = 1024  # windows per chunk: bounds memory
Logits = Sequence[np.ndarray] | np.ndarray


class Spans(NamedTuple):
    """Candidate spans, ordered by row and then best first; one array entry each."""

    row: np.ndarray
    score: np.ndarray  # start logit + end logit
    start: np.ndarray  # first character in the context
    end: np.ndarray  # one past the last character


@dataclass(frozen=True)
class Answers:
    """The model's answers; one entry per row of the evaluated table."""

    ids: list[str]
    text: list[str]  # of the best span; "" if there is none
    score: np.ndarray  # of the best span; 0 if there is none
    null_score: np.ndarray  # score of "no answer"; 0 if the row has no window
    spans: Spans  # the `n_best` of every row

    @property
    def null_odds(self) -> np.ndarray:
        """Score of "no answer" minus score of the best span."""
        return self.null_score - self.score

    def predictions(self, null_threshold: float | None) -> list[str]:
        """The answer texts; with a threshold (v2), "" if the null odds are above it."""
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

    A window's candidates combine the `n_best` highest start logits with the `n_best` highest end logits. Both must be
    context tokens, the end not before the start, the span at most `max_answer_length` tokens long and not blank. Ties
    between logits go to the earlier token; ties between spans to the earlier window, then the earlier start, then the
    shorter span. The null score is the lowest start + end logit of [CLS] over the row's windows, so all windows must
    favour "no answer". Sums are in double precision. A row without candidates has no text (D-qa-candidates).

    Args:
        windows: from `tasks.squad.windows.windows`; any subset, in any order.
        rows: the table of their rows.
        start_logits, end_logits: one array per window, at least `length` long; the rest is padding.
        n_best, max_answer_length: 20 and 30 in the released script (its defaults).

    Raises:
        UserError: a logit isn't finite.
    """
    columns = windows.with_format("arrow")[:]
    row, length, context = (columns[name].to_numpy() for name in ("row", "length", "context"))
    lists = columns["char_start"].combine_chunks()
    count = lists.value_lengths().to_numpy()
    char_start, char_end = (columns[name].combine_chunks().flatten().to_numpy() for name in ("char_start", "char_end"))
    base = np.cumsum(count) - count - context  # + token: its index in the flat arrays

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
        chunks.append([values[span.end > span.start] for values in span])  # a whitespace token has no text
    spans = ranked(Spans(*(np.concatenate(parts) for parts in zip(*chunks, strict=True))), n_best)

    best = firsts(spans.row)
    score, text = np.zeros(rows.num_rows), [""] * rows.num_rows
    score[spans.row[best]] = spans.score[best]
    contexts = rows["context"]
    for i, a, b in zip(*(values[best].tolist() for values in (spans.row, spans.start, spans.end)), strict=True):
        text[i] = contexts[i].as_py()[a:b].rstrip()  # the last token may be whitespace
    null_score[np.isinf(null_score)] = 0.0
    return Answers(rows["id"].to_pylist(), text, score, null_score, spans)


def padded(logits: Logits, lengths: np.ndarray) -> np.ndarray:
    """Pad to (windows, longest) in double precision, with -inf after each window's length."""
    matrix = np.full((len(lengths), lengths.max()), -np.inf)
    for line, values, length in zip(matrix, logits, lengths, strict=True):
        line[:length] = values[:length]
        if not np.isfinite(line[:length]).all():
            raise UserError("the model's start and end logits aren't finite, it has diverged: lower training.lr")
    return matrix


def top(values: np.ndarray, n: int) -> np.ndarray:
    """Positions of the `n` highest values of every row, in order of position; ties go to the earlier one."""
    return np.sort(np.argsort(-values, axis=1, kind="stable")[:, :n], axis=1)


def firsts(row: np.ndarray) -> np.ndarray:
    """Index of the first entry of every run of equal rows."""
    return np.flatnonzero(np.diff(row, prepend=-1))


def ranked(spans: Spans, n: int) -> Spans:
    """Sort by row, then best first, and keep at most `n` per row; the sort is stable."""
    order = np.lexsort((-spans.score, spans.row))
    row = spans.row[order]
    begins = firsts(row)
    rank = np.arange(len(row)) - np.repeat(begins, np.diff(begins, append=len(row)))
    return Spans(*(values[order[rank < n]] for values in spans))


def write_predictions(folder: Path, answers: Answers, null_threshold: float | None) -> None:
    """Write `predictions.json` ({id: text}) for the official script.

    With a threshold (v2) also `null_odds.json` ({id: float}) and `best_spans.json`, the texts before thresholding,
    which the official script needs for its best values (D-best-threshold).

    Raises:
        UserError: the folder can't be written.
    """

    def write(name: str, values: Sequence[Any]) -> None:
        write_json(folder / name, dict(zip(answers.ids, values, strict=True)))

    write("predictions.json", answers.predictions(null_threshold))
    if null_threshold is not None:
        write("null_odds.json", answers.null_odds.tolist())
        write("best_spans.json", answers.text)
