"""Realistic row lengths, and the batches for benchmarks."""

from collections.abc import Sequence
from typing import Any

import torch

from adalora.training.batches import LengthGroups

ROWS = 2490
# RTE's 2,490 training rows in WordPiece tokens (BERT's uncased vocabulary), truncated at 320: quantiles
# 1/128, 3/128, ..., 127/128. Their mean is 70.0, that of the rows 70.2.
QUANTILES = (
    20, 25, 27, 29, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 46, 47, 47, 48, 49, 50, 51, 52, 52,
    53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 64, 65, 66, 68, 70, 72, 75, 78, 82, 88, 92, 98, 106, 111, 116, 121, 125,
    130, 135, 140, 146, 154, 164, 181, 202,
)  # fmt: skip

# XSum's documents and summaries, from 1,000 training rows (a subset), documents truncated at 512 tokens (35 %):
# quantiles 1/32, 3/32, ..., 31/32. Their means are 352.6 and 27.9, those of the rows 362.3 and 27.9.
DOCUMENTS = (80, 115, 168, 219, 264, 298, 331, 371, 417, 465, 512, 512, 512, 512, 512, 512)
SUMMARIES = (17, 20, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 34, 36, 41)


def rows() -> list[int]:
    """The length of every row, in a fixed random order."""
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).tolist()
    return [QUANTILES[i * len(QUANTILES) // ROWS] for i in order]


def grouped(count: int, size: int) -> list[list[int]]:
    """Length-grouped batches as in a run: `count` of an epoch's, evenly from the shortest to the longest."""
    lengths = rows()
    batches = [[lengths[i] for i in batch] for batch in LengthGroups(lengths, size, 1, seed=0).batches()]
    return spread(sorted([batch for batch in batches if len(batch) == size], key=sum), count)


def in_random_order(count: int, size: int) -> list[list[int]]:
    """Batches of rows in random order, selected in the same way."""
    return spread(sorted([list(batch) for batch in zip(*[iter(rows())] * size, strict=False)], key=sum), count)


def documents(count: int, size: int) -> list[list[int]]:
    """Batches of documents of similar length, from the shortest to the longest."""
    lengths = sorted(DOCUMENTS * (size * count // len(DOCUMENTS) + 1))
    part = len(lengths) // count
    return [spread(lengths[i * part : (i + 1) * part], size) for i in range(count)]


def summaries(size: int) -> list[int]:
    """Lengths of the summaries of a batch."""
    return spread(SUMMARIES, size)


def spread(ordered: Sequence[Any], size: int) -> list[Any]:
    """Pick `size` of them, evenly spaced."""
    return [ordered[int((i + 0.5) * len(ordered) / size)] for i in range(size)]
