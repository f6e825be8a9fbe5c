"""One run in several processes, as torchrun and accelerate start them: who is who. Imports no torch."""

import os
from datetime import timedelta


def count() -> int:
    """The processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number among them. Process 0 alone owns lock, status, files and wandb, and speaks."""
    return int(os.environ.get("RANK", "0"))


def local_count() -> int:
    """The processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_rank() -> int:
    """This process's number among those."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def first_to_tell() -> bool:
    """Whether no process of this run has told of its end before: one line is enough, from wherever the cause is.

    They agree through the store that their launcher keeps. Where there is none, process 0 speaks.
    """
    if count() == 1:
        return True
    from torch import distributed

    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(*place, is_master=False, timeout=timedelta(seconds=5))
        return store.add(f"adalora/told/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1) == 1
    except (KeyError, distributed.DistError):
        return rank() == 0 or distributed.is_initialized()  # process 0 kept it, and is gone
