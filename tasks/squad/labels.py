"""Locate the answer in a window: its first and last token.

docs/deviations.md: D-qa-labels.
"""

import sys

import numpy as np
import pyarrow as pa


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
