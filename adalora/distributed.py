"""Communication between processes beyond what data parallelism does."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from adalora.errors import LostProcess


def several() -> bool:
    """Whether the run has several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def average(tensor: Tensor) -> None:
    """Average a tensor over all processes, in place; a no-op for one process."""
    if several():
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()


class Agreement:
    """Let all processes act on a request of any of them after the same step.

    With one process that is immediate. With several it is one step later: the CPUs exchange the flags while the next
    step is computed, so no device waits.

    Args:
        size: number of flags per process.
    """

    def __init__(self, size: int) -> None:
        self.sent = torch.zeros(size, dtype=torch.int64)
        self.work: dist.Work | None = None

    def __call__(self, *wanted: int) -> list[int]:
        """The maximum of each flag over the processes, as of the previous call."""
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
    """Translate the error that a lost peer causes.

    Raises:
        LostProcess: another process is gone.
    """
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        if several() and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise LostProcess(
                "another process of this run ended: the same command resumes from the last checkpoint, if there is one"
            ) from error
        raise
