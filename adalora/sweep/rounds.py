"""Run cells through Hydra's launchers, and continue after a worker dies.

joblib ends its whole batch when one process dies. So a sweep consists of several launches, called rounds, each with the
remaining cells. Cells that were running when a round broke are rerun one at a time, because any of them may be to
blame; a cell whose process dies again counts as failed. SLURM jobs die independently, so this isn't needed there.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adalora.errors import UserError
from adalora.files import write_json
from adalora.runfolder import note_failure
from adalora.sweep.cells import Cell
from adalora.sweep.launchers import Launcher, Local, Slurm
from adalora.sweep.multirun import OUTCOME, read_outcome
from adalora.sweep.queue import ASK_EVERY, CELLS, MOST, jobs_of, unfinished
from adalora.sweep.states import states
from adalora.sweep.worker import SWEEP

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
LOG = "log.txt"
POLL = 0.5  # seconds between checks of a round
DEATHS = 2  # worker deaths after which a cell counts as failed


@dataclass
class Sweep:
    """The cells of a sweep and their outcomes.

    Args:
        folder: the sweep's folder, below the run root.
        launcher: how to launch the runs.
        look: called regularly while a round runs.
    """

    folder: Path
    launcher: Launcher
    look: Callable[[], None]
    deaths: Counter[str] = field(default_factory=Counter)  # by cell
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)  # by cell
    jobs: list[str] = field(default_factory=list)  # ids of submitted SLURM jobs

    def run(self, cells: Sequence[Cell]) -> None:
        """Run all cells; afterwards each has an outcome: a result, `error`, or `busy`.

        Raises:
            UserError: a round ended before its first run.
            KeyboardInterrupt: Ctrl-C; local runs can be resumed from their last checkpoint, SLURM jobs keep running.
        """
        rounds = 0
        while left := [cell for cell in cells if cell.id not in self.outcomes]:
            rounds += 1
            place = self.folder / f"round-{rounds}"
            if isinstance(self.launcher, Slurm):
                batch = left[:MOST]
                self.submit(batch, self.launcher, place)
                if not self.launcher.wait:
                    return
                self.follow(batch)
            else:
                suspects = [cell for cell in left if self.deaths[cell.id]]
                batch = suspects or left
                with self.started(batch, Local(1) if suspects else self.launcher, place) as process:
                    while process.poll() is None:
                        self.pause(process)
                self.look()
            self.settle(batch, place)

    @contextmanager
    def started(self, batch: Sequence[Cell], launcher: Launcher, place: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Start `train.py --multirun` for a batch, with output in `place/log.txt`; wait for its end after the block."""
        place.mkdir(parents=True)
        write_json(place / CELLS, [{"cell": cell.id, "overrides": cell.overrides} for cell in batch])
        command = [
            sys.executable, str(TRAIN), "--multirun", "hydra/sweeper=cells", *launcher.overrides(len(batch)),
            f"hydra.sweeper.file={quoted(place / CELLS)}", f"hydra.sweep.dir={quoted(place)}",
        ]  # fmt: skip
        with (place / LOG).open("w") as log:
            # the sweep has asked the hub for everything; a job may run where nothing is cached
            cached = {} if isinstance(launcher, Slurm) else {"HF_HUB_OFFLINE": "1"}
            environment = os.environ | cached | {SWEEP: str(os.getpid())}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            try:
                yield process
            except KeyboardInterrupt:  # the runs get it too: a single one saves first, joblib kills several
                raise
            except BaseException:
                process.terminate()
                raise
            finally:
                process.wait()

    def pause(self, process: subprocess.Popen[bytes]) -> None:
        """Call `look`, then wait briefly."""
        self.look()
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL)

    def submit(self, batch: Sequence[Cell], launcher: Slurm, place: Path) -> None:
        """Submit a batch to SLURM. Raises `UserError` if SLURM rejects it."""
        with self.started(batch, launcher, place) as process:
            while process.poll() is None and len(jobs_of(place)) < len(batch):
                self.pause(process)
            process.terminate()  # only needed for submitting: Hydra's launcher would wait for all jobs
        unfinished.cache_clear()
        if not (jobs := jobs_of(place)):
            raise UserError(f"SLURM accepted no job: {last_line(place)}")
        self.jobs.append(jobs[0].partition("_")[0])

    def follow(self, batch: Sequence[Cell]) -> None:
        """Wait until SLURM has finished all jobs of a batch."""
        while True:
            self.look()
            try:
                found = states(self.folder.parents[1], {cell.id: None for cell in batch}).values()
                if not any(state.name in ("queued", "running") for state in found):
                    return
            except UserError:  # SLURM doesn't answer: try again later
                pass
            time.sleep(ASK_EVERY)

    def settle(self, batch: Sequence[Cell], place: Path) -> None:
        """Read the outcomes of a round's runs, and count worker deaths."""
        started = 0
        for number, cell in enumerate(batch):
            if not (place / str(number) / OUTCOME).exists():
                continue  # never started
            outcome = read_outcome(place / str(number))
            started += 1
            if "started" not in outcome:
                self.outcomes[cell.id] = outcome
                continue
            self.deaths[cell.id] += 1
            if self.deaths[cell.id] >= DEATHS:
                reason = f"its process died {DEATHS} times (out of memory? see {place})"
                note_failure(Path(cell.config.run_root).expanduser(), cell.id, reason)
                self.outcomes[cell.id] = {"error": reason}
        if not started:
            raise UserError(f"no run could be started: {last_line(place)}")

    def failed(self) -> dict[str, str]:
        """Why cells failed, by cell id."""
        return {cell: outcome["error"] for cell, outcome in self.outcomes.items() if "error" in outcome}

    def busy(self) -> list[str]:
        """Cells that another process is running."""
        return [cell for cell, outcome in self.outcomes.items() if "busy" in outcome]


def last_line(place: Path) -> str:
    """The last line printed by a round's `train.py`, and the path of its log."""
    lines = (place / LOG).read_text(errors="replace").strip().splitlines()
    return f"{lines[-1].removeprefix('error: ') if lines else 'no output'} (all of it is in {place / LOG})"


def quoted(path: Path) -> str:
    """Quote a path for a Hydra override."""
    text = str(path.absolute()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
