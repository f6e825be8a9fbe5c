"""Run cells on this machine: a cell is one `train.py` process, and a few run at a time.

Exit codes of `train.py`: 0 done, 1 failed, 75 another process runs it, 128 + n stopped by signal n.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from adalora.errors import BUSY, Terminated
from adalora.paths import ROOT
from adalora.run.folder import note_failure
from adalora.sweep.cells import Cell
from adalora.sweep.worker import SWEEP, gpu, threads

POLL = 0.2  # seconds between looks at the processes
STOPS = (signal.SIGINT, signal.SIGTERM)  # a run that is still starting ends by them at once
DEATHS = 2  # deaths of its process after which a cell has failed


@dataclass(frozen=True)
class Outcome:
    """How a cell ended, and why it failed or was stopped."""

    kind: Literal["done", "failed", "busy", "stopped"]
    reason: str = ""


def run_cells(cells: Sequence[Cell], workers: int, folder: Path, look: Callable[[], None]) -> dict[str, Outcome]:
    """Run all cells, in order, and return their outcomes by cell. A cell whose process dies is started again, once.

    On Ctrl-C or SIGTERM every run gets one SIGTERM, saves a checkpoint and ends; a second one kills the runs.

    Args:
        cells: the cells.
        workers: runs at once.
        folder: for the runs' output, a file each.
        look: called regularly.

    Raises:
        KeyboardInterrupt: stopped by Ctrl-C, or by SIGTERM (`Terminated`).
    """
    left = deque(cells)
    names = [re.sub(r"[^\w.=-]+", "-", " ".join(cell.overrides))[:150] for cell in cells]
    logs = {cell.id: folder / f"{i:04}-{name}.txt" for i, (cell, name) in enumerate(zip(cells, names, strict=True), 1)}
    running: dict[int, tuple[Cell, subprocess.Popen[bytes]]] = {}  # by slot
    outcomes: dict[str, Outcome] = {}
    deaths: Counter[str] = Counter()
    with raising_on_sigterm():
        try:
            while left or running:
                for slot in range(workers):
                    if slot not in running and left:
                        cell = left.popleft()
                        running[slot] = cell, start(cell, slot, workers, logs[cell.id])
                look()
                time.sleep(POLL)
                for slot, (cell, process) in list(running.items()):
                    if (code := process.poll()) is None:
                        continue
                    del running[slot]
                    died = code < 0 and -code not in STOPS
                    deaths[cell.id] += died
                    if died and deaths[cell.id] < DEATHS:
                        left.appendleft(cell)
                    else:
                        outcomes[cell.id] = outcome(cell, code, logs[cell.id])
        except BaseException:
            try:
                for _, process in running.values():
                    process.terminate()
                for _, process in running.values():
                    process.wait()
            except KeyboardInterrupt:
                for _, process in running.values():
                    process.kill()
            raise
    return outcomes


def start(cell: Cell, slot: int, workers: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a cell's process with its share of the machine, in a session of its own: Ctrl-C reaches the sweep alone."""
    environment = os.environ | (threads(workers) | gpu(slot) if workers > 1 else {})
    environment |= {"HF_HUB_OFFLINE": "1", SWEEP: str(os.getpid())}  # the sweep has asked the hub for everything
    command = [sys.executable, "-u", str(ROOT / "train.py"), *cell.overrides]
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )


def outcome(cell: Cell, code: int, log: Path) -> Outcome:
    """How a cell ended, by the exit code of its process; -n if signal n killed it."""
    lines = log.read_text(errors="replace").strip().splitlines()
    said = f"{lines[-1].removeprefix('error: ') if lines else 'no output'} (all of its output is in {log})"
    if code > 128 or -code in STOPS:
        return Outcome("stopped", f"by signal {code - 128 if code > 128 else -code}: the same command resumes it")
    if code < 0:
        reason = f"its process died {DEATHS} times (out of memory?): {said}"
        note_failure(Path(cell.config.run_root).expanduser(), cell.id, reason)
        return Outcome("failed", reason)
    if code == BUSY:
        return Outcome("busy", "another process runs it")
    return Outcome("failed", said) if code else Outcome("done")


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
