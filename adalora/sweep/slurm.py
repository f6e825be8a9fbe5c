"""Run cells as SLURM jobs, by submitit, and know which cells are in SLURM's queue."""

import functools
import io
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from adalora.errors import UserError
from adalora.files.reading import Damaged, read_json
from adalora.files.writing import write_json
from adalora.paths import ROOT
from adalora.sweep.cells import Cell

SWEEPS = ".multirun"  # below the run root: one folder per sweep
CELLS = "cells.json"  # in an array's folder: the ids of its cells, in order
JOBS = ".submitit"  # next to it: submitit's folder of each job, named by its id
SBATCH = {"time": "timeout_min", "mem": "mem_gb", "cpus": "cpus_per_task", "gpus": "gpus_per_node"}
"""sbatch's name -> submitit's."""
ASK_EVERY = 10.0  # seconds between calls of squeue, which is shared by all users
MOST = 1000  # jobs per array: SLURM's default limit (MaxArraySize) is 1001
SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


@dataclass(frozen=True)
class Slurm:
    """How to submit: options of conf/hydra/launcher/slurm.yaml, such as `partition=gpu`, and whether to wait."""

    options: Sequence[str] = ()
    wait: bool = True


class Job:
    """What a job does: start `train.py`, hand signals on to it, and wait until it has saved and ended.

    Only then submitit's own handler is called, which queues the job again before a time limit or preemption.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.overrides = list(overrides)

    def __call__(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "train.py"), *self.overrides], stdin=subprocess.DEVNULL
        )

        received: list[int] = []

        def hand_on(number: int, frame: FrameType | None) -> None:
            received.append(number)
            process.send_signal(number)

        submitits = {int(number): signal.signal(number, hand_on) for number in SIGNALS}
        if code := process.wait():
            for number in received:
                if callable(handler := submitits[number]):
                    handler(number, None)
            sys.exit(code)

    def checkpoint(self) -> Any:
        """Called by submitit: the same again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(cells: Sequence[Cell], slurm: Slurm, folder: Path) -> list[str]:
    """Submit a job for each cell, in arrays of at most `MOST`, and return the arrays' ids.

    Raises:
        UserError: an option is wrong, or SLURM refuses it.
    """
    import submitit

    options = launcher_options(slurm.options)
    limit = options.pop("max_num_timeout")
    own = {name: value for name, value in options.items() if not name.startswith("_") and name != "submitit_folder"}
    shared = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name",
              "stderr_to_stdout")  # fmt: skip  # submitit's, whatever the scheduler
    found: list[str] = []
    for number, start in enumerate(range(0, len(cells), MOST), start=1):
        batch, array = cells[start : start + MOST], folder / f"array-{number}"
        array.mkdir(parents=True)
        write_json(array / CELLS, [cell.id for cell in batch])
        try:
            executor = submitit.AutoExecutor(array / JOBS / "%j", cluster="slurm", slurm_max_num_timeout=limit)
            executor.update_parameters(**{n if n in shared else f"slurm_{n}": v for n, v in own.items()})
            with redirect_stderr(io.StringIO()), executor.batch():  # the error has what sbatch says
                jobs = [executor.submit(Job(cell.overrides)) for cell in batch]
        except (submitit.core.utils.FailedJobError, RuntimeError, OSError) as error:
            said = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
            rest = f"only the jobs {', '.join(found)} (scancel {' '.join(found)} ends them)" if found else "no job"
            raise UserError(f"SLURM accepted {rest}: {said}") from error
        found.append(str(jobs[0].job_id).partition("_")[0])
    unfinished.cache_clear()
    return found


def launcher_options(options: Sequence[str]) -> dict[str, Any]:
    """The options of conf/hydra/launcher/slurm.yaml, with some set. Raises `UserError`."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    from adalora.config import register
    from adalora.config.mistakes import explain
    from adalora.paths import CONF

    for option in options:
        if (name := option.partition("=")[0]) in SBATCH:
            raise UserError(f"SLURM={option}: submitit calls it {SBATCH[name]}")
    register()
    GlobalHydra.instance().clear()
    overrides = ["hydra/launcher=slurm", *(f"hydra.launcher.{option}" for option in options)]
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            tree = hydra.compose("config", overrides=overrides, return_hydra_config=True)
            found = OmegaConf.to_container(tree.hydra.launcher)  # without the folder, which the sweep sets
    except HydraException as error:
        others = "sbatch's other options go into additional_parameters={NAME: VALUE}"
        raise UserError(f"SLURM='{' '.join(options)}': {explain(error)}; {others}") from error
    assert isinstance(found, dict)
    return {str(name): value for name, value in found.items()}


def follow(unsettled: Callable[[], bool], look: Callable[[], None]) -> None:
    """Wait until SLURM has finished all jobs.

    Args:
        unsettled: whether a cell is queued or running; raises `UserError` while SLURM doesn't answer.
        look: called in between.
    """
    while True:
        look()
        with suppress(UserError):
            if not unsettled():
                return
        time.sleep(ASK_EVERY)


def queued(root: Path) -> dict[str, str]:
    """The unfinished SLURM job of every cell below `root`, such as `12_3`.

    Raises:
        UserError: SLURM doesn't answer.
    """
    folders = {path.name: path for path in root.glob(f"{SWEEPS}/*/array-*/{JOBS}/[0-9]*")}
    if not folders or shutil.which("squeue") is None:
        return {}
    found = {}
    for job in unfinished(int(time.monotonic() // ASK_EVERY)):
        if (folder := folders.get(job)) is not None:
            _, _, number = job.partition("_")
            with suppress(Damaged, IndexError):  # then it isn't queued, and its lock prevents a second run
                cells = read_json(folder.parents[1] / CELLS, list[str], "start the sweep again")
                found[cells[int(number or 0)]] = job
    return found


@functools.lru_cache(1)
def unfinished(moment: int) -> list[str]:
    """The user's waiting and running jobs, cached briefly. Raises `UserError`."""
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        raise UserError(f"SLURM's squeue failed ({str(said).strip()}): try again when it answers") from error
