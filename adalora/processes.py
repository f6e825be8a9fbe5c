"""The processes that torchrun or accelerate start for one run: their ranks, and what they tell each other.

Composing options needs the ranks, so torch is only imported where tensors are exchanged.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from adalora.errors import LostProcess

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Work


def count() -> int:
    """Number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Rank of this process. Only rank 0 holds the lock, writes status and files, uses wandb, and prints."""
    return int(os.environ.get("RANK", "0"))


def local_count() -> int:
    """Number of processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_rank() -> int:
    """Rank of this process on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def first_to_report() -> bool:
    """Whether this process is the first of the run to report its end, so that only one line is printed.

    The processes agree through their launcher's store. Without one, rank 0 reports.
    """
    if count() == 1:
        return True
    from torch import distributed

    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=5))
        return store.add(f"adalora/reported/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1) == 1
    except (KeyError, distributed.DistError):
        return rank() == 0 or distributed.is_initialized()  # rank 0 hosted the store and is gone


def several() -> bool:
    """Whether the run has several processes, connected by torch.distributed."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def average(tensor: "Tensor") -> None:
    """Average a tensor over all processes, in place; a no-op for one process."""
    if several():
        from torch import distributed

        distributed.all_reduce(tensor)
        tensor /= distributed.get_world_size()


class Agreement:
    """Let all processes act on a request of any of them after the same step.

    With one process that is immediate. With several it is one step later: the CPUs exchange the flags while the next
    step is computed, so no device waits.
    """

    def __init__(self) -> None:
        self.sent: list[int] | Tensor = [0, 0]
        self.work: Work | None = None

    def __call__(self, *wanted: int) -> list[int]:
        """The maximum of each of two flags over the processes, as of the previous call; alone, the flags themselves."""
        if not several():
            return list(wanted)
        import torch

        if self.work is not None:
            self.work.wait()
        agreed = list(map(int, self.sent))
        self.sent = torch.tensor(wanted)
        self.work = torch.distributed.all_reduce(self.sent, torch.distributed.ReduceOp.MAX, async_op=True)
        return agreed


@contextmanager
def raising_lost_process() -> Iterator[None]:
    """Translate the error that a lost peer causes.

    Raises:
        LostProcess: another process is gone.
    """
    from torch import distributed

    try:
        yield
    except (RuntimeError, distributed.DistError) as error:
        if several() and (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise LostProcess(
                "another process of this run ended: the same command resumes from the last checkpoint, if there is one"
            ) from error
        raise
