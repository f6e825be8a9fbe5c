"""The live view of a sweep. It only reads run folders, so a second terminal shows the same."""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from adalora.errors import UserError
from adalora.files import write_json
from adalora.lock import held
from adalora.progress.terminal import console
from adalora.reading import Damaged, read_json
from adalora.sweep.listing import duration
from adalora.sweep.queue import SWEEPS
from adalora.sweep.states import WAITING, Content, State, last_lines, states

EVERY = 2.0  # seconds between reads of the run folders
PLAIN_EVERY = 60.0  # seconds between progress lines without a terminal
VIEW = "sweep.json"


@dataclass(frozen=True)
class Line:
    """A cell in the view."""

    id: str
    name: str
    seconds: float  # estimated
    content: Content | None  # digests of its weights and data


@dataclass(frozen=True)
class Watched:
    """The file from which `make watch` knows a sweep."""

    run_root: str
    workers: int
    cells: Sequence[Line]
    records: str | None = None  # a folder of records, which count as done

    def save(self, sweep: Path) -> None:
        """Write it into the sweep's folder."""
        write_json(sweep / VIEW, asdict(self))


def newest(root: Path) -> tuple[Path, Watched]:
    """Find the newest sweep below a run root: its folder and cells. Raises `UserError` if there is none."""
    for path in sorted(root.glob(f"{SWEEPS}/*/{VIEW}"), reverse=True):
        try:
            return path.parent, read_json(path, Watched, "start another sweep")
        except Damaged:
            continue
    raise UserError(f"{root} has no sweep to watch: start one with make reproduce-glue, or give RUNS=FOLDER")


class View:
    """Shows the state of every cell: as a table in a terminal, else as lines. Call `look` regularly."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.root = Path(watched.run_root).expanduser()
        self.first: dict[str, tuple[int, float]] = {}  # step and time when a running cell was first seen
        self.known: dict[str, str] = {}  # states printed so far; those of an earlier sweep aren't printed
        self.latest: dict[str, State] = {}  # as of the last look
        self.answered = True  # whether SLURM answered then
        self.looked = self.told = 0.0
        self.started = time.monotonic()
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "View":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def states(self) -> dict[str, State]:
        """The current states."""
        records = Path(self.watched.records) if self.watched.records else None
        return states(self.root, {line.id: line.content for line in self.watched.cells}, records)

    def look(self, always: bool = False) -> None:
        """Read the folders and show changes, at most every few seconds, or say once that SLURM doesn't answer."""
        now = time.monotonic()
        if not always and now - self.looked < EVERY:
            return
        self.looked = now
        try:
            self.latest = states = self.states()
        except UserError as error:
            if self.answered:
                console.print(f"retrying: {error}", markup=False, soft_wrap=True)
            self.answered = False
            return
        self.answered = True
        running = [
            self.progress(line, state, now)
            for line in self.watched.cells
            if (state := states[line.id]).name == "running"
        ]
        summary = self.summary(states, running)
        if self.live:
            self.live.update(self.table(states, running, summary), refresh=True)
        else:
            self.tell(states, running, summary, now)

    @property
    def unfinished(self) -> bool:
        """Whether cells run or wait in SLURM's queue, or may do so because SLURM didn't answer."""
        return not self.answered or any(state.name in ("queued", "running") for state in self.latest.values())

    def progress(self, line: Line, state: State, now: float) -> dict[str, Any]:
        """Progress of a running cell: step, T, metric, steps per second, seconds left."""
        assert state.folder is not None
        step, evaluation = last_lines(state.folder.path)
        before, then = self.first.setdefault(line.id, (step, now))
        speed = (step - before) / (now - then) if step > before else None
        total = state.folder.steps
        left = (total - step) / speed if speed else None
        metric = next(((name, value) for name, value in evaluation.items() if name != "loss"), None)
        return {"line": line, "step": step, "total": total, "metric": metric, "speed": speed, "left": left}

    def summary(self, states: dict[str, State], running: Sequence[dict[str, Any]]) -> str:
        """Counts by state, and the remaining time: the estimates, corrected by the speed of the running cells."""
        counts = Counter(state.name for state in states.values())
        told = [
            f"{counts[name]} {name}"
            for name in ("done", "running", "queued", "failed", "interrupted", "died", "missing")
            if counts[name]
        ]
        seconds = {line.id: line.seconds for line in self.watched.cells}
        pace = [
            run["total"] / run["speed"] / seconds[run["line"].id]
            for run in running
            if run["speed"] and seconds[run["line"].id]
        ]
        factor = statistics.median(pace) if pace else 1.0
        left = sum(seconds[cell] * factor for cell, state in states.items() if state.name in WAITING)
        for run in running:
            share = 1 - run["step"] / run["total"] if run["total"] else 1.0
            left += seconds[run["line"].id] * factor * share if run["left"] is None else run["left"]
        time_left = f"; about {duration(left / self.watched.workers)} left" if left else ""
        return f"{', '.join(told)} of {len(states)}{time_left}"

    def table(self, states: dict[str, State], running: Sequence[dict[str, Any]], summary: str) -> Group:
        """The view for a terminal."""
        table = Table(box=None)
        for name in ("running", "step", "metric so far", "steps/s", "left"):
            table.add_column(name, justify="left" if name == "running" else "right")
        for run in running:
            table.add_row(run["line"].name, *written(run))
        failed = [
            Text.assemble(("failed ", "red"), f"{line.name}: {states[line.id].reason}")
            for line in self.watched.cells
            if states[line.id].name == "failed"
        ]
        return Group(*failed[-5:], table, f"{summary}; {duration(time.monotonic() - self.started)} so far")

    def tell(self, states: dict[str, State], running: Sequence[dict[str, Any]], summary: str, now: float) -> None:
        """The view for a log file: a line for every change, and one per minute."""
        news = []
        for line in self.watched.cells:
            state = states[line.id]
            before = self.known.get(line.id)
            self.known[line.id] = state.name
            if state.name in (before, "missing") or (before is None and state.name not in ("running", "queued")):
                continue
            text = f"{state.name}: {line.name}"
            if state.name == "done" and state.folder:
                text += headline(state)
            news.append(text + (f": {state.reason}" if state.name == "failed" else ""))
        if news or now - self.told > PLAIN_EVERY:
            self.told = now
            for text in news:
                console.print(text, markup=False, soft_wrap=True)
            for run in [] if news else running:
                step, metric, speed, left = written(run)
                parts = [f"step {step}", metric, speed and f"{speed} steps/s", left and f"{left} left"]
                console.print(f"  {run['line'].name}: {'  '.join(filter(None, parts))}", markup=False, soft_wrap=True)
            console.print(summary, markup=False, soft_wrap=True)


def written(run: dict[str, Any]) -> tuple[str, str, str, str]:
    """Format step, metric, speed and remaining time."""
    metric = f"{run['metric'][0]} {run['metric'][1]:.4f}" if run["metric"] else ""
    speed = f"{run['speed']:.2f}" if run["speed"] else ""
    return f"{run['step']:,}/{run['total']:,}", metric, speed, duration(run["left"]) if run["left"] is not None else ""


def headline(state: State) -> str:
    """A finished run's headline metric."""
    assert state.folder is not None
    if (result := state.folder.result) is None:
        return ""
    name = result.task["headline"]
    return f": {name} {result.last[name]:.4f}"


def watch(root: Path) -> None:
    """Show the newest sweep below `root` until its process has ended and SLURM has none of its jobs.

    Raises:
        UserError: there is none.
    """
    folder, watched = newest(root)
    with View(watched) as view:
        while True:
            ended = not held(folder)
            view.look(always=True)
            if ended and not view.unfinished:
                break
            time.sleep(EVERY)
    console.print(f"{folder.name} has ended: {view.summary(view.latest, [])}", markup=False)
