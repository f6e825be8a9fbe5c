"""What waits or runs in SLURM's queue of the cells that sweeps have submitted. Reads files and asks `squeue`."""

import functools
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from adalora.errors import UserError
from adalora.reading import Damaged, read_json

SWEEPS = ".multirun"  # below the run root: a folder for each sweep
CELLS = "cells.json"  # in a round's folder: the runs it starts
JOBS = ".submitit"  # beside it: submitit's folder of each job, named by its number
ASK_EVERY = 10.0  # seconds between questions to SLURM, which answers all users
MOST = 1000  # jobs of one array: SLURM's own limit (MaxArraySize) is 1001 unless the cluster raises it


def queued(root: Path) -> dict[str, str]:
    """The job of every cell below `root` that SLURM has not finished, as `12_3`.

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
            with suppress(Damaged, IndexError):  # not queued then, and its lock keeps two from one run
                found[read_cells(folder.parents[1] / CELLS)[int(number or 0)].cell] = job
    return found


class Start(BaseModel):
    """A run that a round starts."""

    cell: str
    overrides: list[str]


def read_cells(path: Path) -> list[Start]:
    """The runs of a round. Raises `Damaged`."""
    return read_json(path, list[Start], "start the sweep again")


@functools.lru_cache(1)
def unfinished(moment: int) -> list[str]:
    """The user's jobs that wait or run, asked once a moment. Raises `UserError`."""
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        raise UserError(f"SLURM doesn't say which jobs it has ({str(said).strip()}): try again") from error


def jobs_of(place: Path) -> list[str]:
    """The numbers of the jobs that a round has submitted."""
    return sorted(path.parent.name for path in place.glob(f"{JOBS}/*/*_submitted.pkl"))
