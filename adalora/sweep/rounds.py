"""Runs cells to their end through Hydra's launchers, and goes on where a worker's death ended a launch.

joblib ends its whole batch when one of its processes dies. So a sweep is a few launches, *rounds*: each gets the cells
that are left. A cell that was at work when a round broke is run again alone, since another may have been to blame; one
whose process then dies again counts as failed. SLURM's jobs die alone, so they need no suspects.
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
POLL = 0.5  # seconds between looks at a round
DEATHS = 2  # of workers, that a cell may cause before it counts as failed


@dataclass
class Sweep:
    """The cells of one sweep, and what has become of them.

    Args:
        folder: the sweep's own, below the run root.
        launcher: where the runs go.
        look: called while a round runs.
    """

    folder: Path
    launcher: Launcher
    look: Callable[[], None]
    deaths: Counter[str] = field(default_factory=Counter)  # by cell
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)  # by cell
    jobs: list[str] = field(default_factory=list)  # SLURM's numbers of what was submitted

    def run(self, cells: Sequence[Cell]) -> None:
        """Run all; afterwards every cell has an outcome: a result, `error`, or `busy`.

        Raises:
            UserError: a round ended before its first run.
            KeyboardInterrupt: Ctrl-C; what was at work here goes on from its last checkpoint, SLURM's jobs run on.
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
        """One `train.py --multirun` over a batch, its output in `place/log.txt`; it has ended after the block."""
        place.mkdir(parents=True)
        write_json(place / CELLS, [{"cell": cell.id, "overrides": cell.overrides} for cell in batch])
        command = [
            sys.executable, str(TRAIN), "--multirun", "hydra/sweeper=cells", *launcher.overrides(len(batch)),
            f"hydra.sweeper.file={quoted(place / CELLS)}", f"hydra.sweep.dir={quoted(place)}",
        ]  # fmt: skip
        with (place / LOG).open("w") as log:
            environment = os.environ | {SWEEP: str(os.getpid())}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            try:
                yield process
            except KeyboardInterrupt:  # it reached the runs too: a single one saves first, joblib ends several at once
                raise
            except BaseException:
                process.terminate()
                raise
            finally:
                process.wait()

    def pause(self, process: subprocess.Popen[bytes]) -> None:
        """Look around for a moment."""
        self.look()
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL)

    def submit(self, batch: Sequence[Cell], launcher: Slurm, place: Path) -> None:
        """Put a batch into SLURM's queue. Raises `UserError` where it isn't taken."""
        with self.started(batch, launcher, place) as process:
            while process.poll() is None and len(jobs_of(place)) < len(batch):
                self.pause(process)
            process.terminate()  # Hydra's launcher would wait for all jobs; submitting was all it was needed for
        unfinished.cache_clear()
        if not (jobs := jobs_of(place)):
            raise UserError(f"SLURM took no job: {last_line(place)}")
        self.jobs.append(jobs[0].partition("_")[0])

    def follow(self, batch: Sequence[Cell]) -> None:
        """Wait until SLURM has none of a batch any more."""
        while True:
            self.look()
            try:
                found = states(self.folder.parents[1], {cell.id: None for cell in batch}).values()
                if not any(state.name in ("queued", "running") for state in found):
                    return
            except UserError:  # SLURM doesn't answer: later
                pass
            time.sleep(ASK_EVERY)

    def settle(self, batch: Sequence[Cell], place: Path) -> None:
        """Read what a round's runs left, and count the deaths of workers."""
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
        """Why cells failed, by their identity."""
        return {cell: outcome["error"] for cell, outcome in self.outcomes.items() if "error" in outcome}

    def busy(self) -> list[str]:
        """Cells that another process is at work on."""
        return [cell for cell, outcome in self.outcomes.items() if "busy" in outcome]


def last_line(place: Path) -> str:
    """What a round's `train.py` said last, and where the rest is."""
    lines = (place / LOG).read_text(errors="replace").strip().splitlines()
    return f"{lines[-1].removeprefix('error: ') if lines else 'no output'} (all of it is in {place / LOG})"


def quoted(path: Path) -> str:
    """A path as a value of a Hydra override."""
    text = str(path.absolute()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
