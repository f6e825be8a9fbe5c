"""Ranks of the processes that torchrun or accelerate start for one run."""

import os
from datetime import timedelta


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


def first_to_tell() -> bool:
    """Whether this process is the first of the run to report its end, so that only one line is printed.

    The processes agree through their launcher's store. Without one, rank 0 reports.
    """
    if count() == 1:
        return True
    from torch import distributed

    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(*place, is_master=False, timeout=timedelta(seconds=5))
        return store.add(f"adalora/told/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1) == 1
    except (KeyError, distributed.DistError):
        return rank() == 0 or distributed.is_initialized()  # rank 0 hosted the store and is gone
