"""Form batches of rows and pad them.

A batch has rows of similar length and is padded to its longest row. The released code pads all rows to a fixed length;
with attention masks this only affects speed (D-pad, D-shuffle). The order depends on seed and epoch alone, so a run can
start anywhere in it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

POOL = 50  # batches per group that is sorted by length: enough shuffling, little padding


class Share(NamedTuple):
    """The rows of one process in one forward pass."""

    rows: list[int]
    counts: bool  # False: no rows for this process, which computes one with weight 0
    last: bool  # the optimizer step it belongs to


class LengthGroups:
    """A batch sampler: random batches of similar length, starting at any step of any epoch.

    Args:
        lengths: tokens of every row.
        batch_size: rows per optimizer step.
        micro_batches: parts per batch.
        seed: the run's seed.
        weights: weight of every row in the mean loss; None: 1.
        processes: processes that share every pass; rows are assigned round-robin.
        process: this process's rank.
    """

    drop_last = False

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        micro_batches: int,
        seed: int,
        weights: Sequence[int] | None = None,
        processes: int = 1,
        process: int = 0,
    ) -> None:
        self.lengths = torch.tensor(lengths)
        self.weights = torch.ones_like(self.lengths) if weights is None else torch.tensor(weights)
        self.rows_a_step = batch_size
        self.batch_size = batch_size // micro_batches
        self.seed = seed
        self.processes, self.process = processes, process
        self.epoch = self.skip = 0
        self.counted: tuple[int, list[tuple[int, int]]] = (
            -1,
            [],
        )  # cache: an epoch, and tokens and weight of its batches

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return -(-len(self.lengths) // self.rows_a_step)

    def tokens(self, first: int, last: int) -> int:
        """Tokens, without padding, of optimizer steps `first` to `last` (exclusive)."""
        return sum(self.totals(step)[0] for step in range(first, last))

    def totals(self, step: int) -> tuple[int, int]:
        """Tokens and total weight of an optimizer step's rows."""
        epoch, place = divmod(step, self.steps)
        if self.counted[0] != epoch:
            both = [(self.lengths[batch].sum(), self.weights[batch].sum()) for batch in self.batches(epoch)]
            self.counted = epoch, [(int(tokens), int(weight)) for tokens, weight in both]
        return self.counted[1][place]

    def start_at(self, step: int) -> None:
        """Start the next iteration at optimizer step `step`."""
        self.epoch, self.skip = divmod(step, self.steps)

    def batches(self, epoch: int | None = None) -> list[Tensor]:
        """The row indices of every batch of an epoch (default: the current one); a smaller batch comes last."""
        epoch = self.epoch if epoch is None else epoch
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        grouped = torch.cat(
            [
                pool[torch.argsort(self.lengths[pool], descending=True, stable=True)]
                for pool in order.split(POOL * self.rows_a_step)
            ]
        )
        batches = list(grouped.split(self.rows_a_step))
        short = [batches.pop()] if len(batches[-1]) < self.rows_a_step else []
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[i] for i in shuffled] + short

    def shares(self) -> Iterator[Share]:
        """This process's rows in every forward pass, in the order of the batches."""
        for batch in self.batches()[self.skip :]:
            parts = batch.split(self.batch_size)
            for number, part in enumerate(parts, 1):
                own = part[self.process :: self.processes].tolist()
                yield Share(own or part[:1].tolist(), bool(own), number == len(parts))

    def __iter__(self) -> Iterator[list[int]]:
        return (share.rows for share in self.shares())

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size) - self.skip * (self.rows_a_step // self.batch_size)


class ByLength(BatchSampler):
    """A batch sampler for evaluation: all rows sorted by length."""

    def __init__(self, lengths: Sequence[int], batch_size: int) -> None:
        self.order = torch.argsort(torch.tensor(lengths), stable=True)
        super().__init__(self.order.tolist(), batch_size, drop_last=False)


def evaluation_size(rows: int, most: int, device: str) -> int:
    """Rows per evaluation batch: `most`, but on a CPU few enough for 16 batches (of at least 8 rows).

    Larger batches have more padding even when sorted by length: RTE's 277 rows are padded to 1.53 times their tokens in
    batches of 128, to 1.07 times in batches of 18. On a GPU fewer batches are faster.
    """
    return min(most, max(8, -(-rows // 16))) if device == "cpu" else most


def loader(rows: Dataset, batches: Any, collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]]) -> DataLoader:
    """A loader that doesn't use torch's global generator, so that a resumed run draws the same numbers."""
    return DataLoader(rows, batch_sampler=batches, collate_fn=collate, generator=torch.Generator())
