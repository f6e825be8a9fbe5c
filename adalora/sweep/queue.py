"""Which cells are in SLURM's queue. Reads files and calls `squeue`."""

import functools
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from adalora.errors import UserError
from adalora.reading import Damaged, read_json

SWEEPS = ".multirun"  # below the run root: one folder per sweep
CELLS = "cells.json"  # in a round's folder: the runs it starts
JOBS = ".submitit"  # next to it: submitit's folder of each job, named by its id
ASK_EVERY = 10.0  # seconds between calls of squeue, which is shared by all users
MOST = 1000  # jobs per array: SLURM's default limit (MaxArraySize) is 1001


def queued(root: Path) -> dict[str, str]:
    """The unfinished SLURM job of every cell below `root`, such as `12_3`.

    Raises:
        UserError: SLURM doesn't answer.
    """
    folders = {path.name: path for path in root.glob(f"{SWEEPS}/*/round-*/{JOBS}/[0-9]*")}
    if not folders or shutil.which("squeue") is None:
        return {}
    found = {}
    for job in unfinished(int(time.monotonic() // ASK_EVERY)):
        if (folder := folders.get(job)) is not None:
            _, _, number = job.partition("_")
            with suppress(Damaged, IndexError):  # then it isn't queued, and its lock prevents a second run
                found[read_cells(folder.parents[1] / CELLS)[int(number or 0)].cell] = job
    return found


class Start(BaseModel):
    """A run of a round."""

    cell: str
    overrides: list[str]


def read_cells(path: Path) -> list[Start]:
    """Read the runs of a round. Raises `Damaged`."""
    return read_json(path, list[Start], "start the sweep again")


@functools.lru_cache(1)
def unfinished(moment: int) -> list[str]:
    """The user's waiting and running jobs, cached briefly. Raises `UserError`."""
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        raise UserError(f"SLURM's squeue failed ({str(said).strip()}): try again when it answers") from error


def jobs_of(place: Path) -> list[str]:
    """The ids of the jobs that a round has submitted."""
    return sorted(path.parent.name for path in place.glob(f"{JOBS}/*/*_submitted.pkl"))
