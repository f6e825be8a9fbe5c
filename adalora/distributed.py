"""What data parallelism does not do by itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from adalora.errors import LostProcess


def several() -> bool:
    """Whether this process has others beside it."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def average(tensor: Tensor) -> None:
    """Replace a tensor by its mean over the processes; alone, it stays as it is."""
    if several():
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()


class Agreement:
    """What any process wants after a step, all do after the same step.

    Alone, that is at once. Among several it is one step later: the numbers travel between the processors while the
    next step is computed, so no device waits for them.

    Args:
        size: how many numbers each process gives.
    """

    def __init__(self, size: int) -> None:
        self.sent = torch.zeros(size, dtype=torch.int64)
        self.work: dist.Work | None = None

    def __call__(self, *wanted: int) -> list[int]:
        """The largest of every number over the processes, as they were at the call before."""
        if not several():
            return list(wanted)
        if self.work is not None:
            self.work.wait()
        agreed = self.sent.tolist()
        self.sent = torch.tensor(wanted)
        self.work = dist.all_reduce(self.sent, dist.ReduceOp.MAX, async_op=True)
        return agreed


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Name the error by which a process notices that another is gone.

    Raises:
        LostProcess: it is.
    """
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        if several() and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise LostProcess(
                "another process of this run ended: the same command goes on from the last checkpoint, if there is one"
            ) from error
        raise
