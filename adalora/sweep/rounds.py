"""Runs cells to their end through Hydra's launchers, and goes on where a worker's death ended a launch.

joblib ends its whole batch when one of its processes dies. So a sweep is a few launches, *rounds*: each gets the cells
that are left. A cell that was at work when a round broke is run again alone, since another may have been to blame; one
whose process then dies again counts as failed.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adalora.errors import UserError
from adalora.files import write_json
from adalora.reporting.multirun import OUTCOME
from adalora.runfolder import note_failure
from adalora.sweep.cells import Cell
from adalora.sweep.worker import SWEEP

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
POLL = 0.5  # seconds between looks at a round
DEATHS = 2  # of workers, that a cell may cause before it counts as failed


@dataclass
class Sweep:
    """The cells of one sweep, and what has become of them.

    Args:
        folder: the sweep's own, below the run root.
        workers: runs at once.
        look: called while a round runs.
    """

    folder: Path
    workers: int
    look: Callable[[], None]
    deaths: Counter[str] = field(default_factory=Counter)  # by cell
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)  # by cell

    def run(self, cells: Sequence[Cell]) -> None:
        """Run all; afterwards every cell has an outcome: a result, `error`, or `busy`.

        Raises:
            UserError: a round ended before its first run.
            KeyboardInterrupt: Ctrl-C; what was at work goes on from its last checkpoint.
        """
        rounds = 0
        while left := [cell for cell in cells if cell.id not in self.outcomes]:
            suspects = [cell for cell in left if self.deaths[cell.id]]
            batch, workers = (suspects, 1) if suspects else (left, min(self.workers, len(left)))
            rounds += 1
            place = self.folder / f"round-{rounds}"
            self.launch(batch, workers, place)
            self.settle(batch, place)

    def launch(self, batch: Sequence[Cell], workers: int, place: Path) -> None:
        """One `train.py --multirun` over a batch, its output in `place/log.txt`."""
        place.mkdir(parents=True)
        write_json(place / "cells.json", [cell.overrides for cell in batch])
        launcher = ["hydra/launcher=workers", f"hydra.launcher.n_jobs={workers}"] if workers > 1 else []
        command = [
            sys.executable, str(TRAIN), "--multirun", "hydra/sweeper=cells", *launcher,
            f"hydra.sweeper.file={quoted(place / 'cells.json')}", f"hydra.sweep.dir={quoted(place)}",
        ]  # fmt: skip
        with (place / "log.txt").open("w") as log:
            environment = os.environ | {SWEEP: str(os.getpid())}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            try:
                while process.poll() is None:
                    self.look()
                    try:
                        process.wait(POLL)
                    except subprocess.TimeoutExpired:
                        continue
            except KeyboardInterrupt:  # it reached the runs too: a single one saves first, joblib ends several at once
                process.wait()
                raise
            except BaseException:
                process.terminate()
                process.wait()
                raise
        self.look()

    def settle(self, batch: Sequence[Cell], place: Path) -> None:
        """Read what a round's runs left, and count the deaths of workers."""
        started = 0
        for number, cell in enumerate(batch):
            try:
                outcome = json.loads((place / str(number) / OUTCOME).read_text())
            except (OSError, ValueError):
                continue  # never started
            started += 1
            if "started" not in outcome:
                self.outcomes[cell.id] = outcome
                continue
            self.deaths[cell.id] += 1
            if self.deaths[cell.id] >= DEATHS:
                reason = f"its process died {DEATHS} times (out of memory? see {place / 'log.txt'})"
                note_failure(Path(cell.config.run_root).expanduser(), cell.id, reason)
                self.outcomes[cell.id] = {"error": reason}
        if not started:
            lines = (place / "log.txt").read_text(errors="replace").strip().splitlines()
            raise UserError(
                f"no run could be started: {lines[-1].removeprefix('error: ') if lines else 'no output'} "
                f"(all of it is in {place / 'log.txt'})"
            )

    def failed(self) -> dict[str, str]:
        """Why cells failed, by their identity."""
        return {cell: outcome["error"] for cell, outcome in self.outcomes.items() if "error" in outcome}

    def busy(self) -> list[str]:
        """Cells that another process is at work on."""
        return [cell for cell, outcome in self.outcomes.items() if "busy" in outcome]


def quoted(path: Path) -> str:
    """A path as a value of a Hydra override."""
    text = str(path.absolute()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
