"""The cells of a sweep while it runs. It only reads run folders, so a second terminal shows the same."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adalora.errors import UserError
from adalora.files.lock import held
from adalora.files.reading import Damaged, read_json
from adalora.files.writing import write_json
from adalora.progress.terminal import console, say
from adalora.sweep.slurm import SWEEPS
from adalora.sweep.status import WAITING, CellStatus, Content, StatusName, last_step, statuses
from adalora.wording import duration

EVERY = 2.0  # seconds between reads of the run folders
PLAIN_EVERY = 60.0  # seconds between summaries without a terminal
VIEW = "sweep.json"
WORKING = ("queued", "running")
COUNTED: tuple[StatusName, ...] = ("done", "running", "queued", "failed", "interrupted", "died", "missing")
LISTED = (*COUNTED[1:], "done")  # in a terminal, which may be too short for all


@dataclass(frozen=True)
class WatchedCell:
    """A cell of a sweep."""

    id: str
    name: str
    seconds: float  # estimated
    content: Content | None  # digests of its weights and data


@dataclass(frozen=True)
class Watched:
    """The file from which `make watch` knows a sweep."""

    run_root: str
    workers: int
    cells: Sequence[WatchedCell]
    records: str | None = None  # a folder of records, which count as done

    def save(self, sweep: Path) -> None:
        """Write it into the sweep's folder."""
        write_json(sweep / VIEW, asdict(self))

    def statuses(self) -> dict[str, CellStatus]:
        """The current statuses. Raises `UserError` while SLURM doesn't answer."""
        records = Path(self.records) if self.records else None
        return statuses(Path(self.run_root), {line.id: line.content for line in self.cells}, records)


def newest(root: Path) -> tuple[Path, Watched]:
    """Find the newest sweep below a run root: its folder and cells. Raises `UserError` if there is none."""
    for path in sorted(root.glob(f"{SWEEPS}/*/{VIEW}"), reverse=True):
        try:
            return path.parent, read_json(path, Watched, "start another sweep")
        except Damaged:
            continue
    raise UserError(f"{root} has no sweep to watch: start one with make reproduce-glue, or give RUNS=FOLDER")


@dataclass
class View:
    """Shows a sweep: in a terminal a list of its cells, with a progress bar for each that runs; elsewhere one line per
    change."""

    watched: Watched
    latest: dict[str, CellStatus] = field(default_factory=dict)  # as of the last look
    answered: bool = True  # whether SLURM answered then
    looked: float = 0.0
    reported: float = 0.0

    def __enter__(self) -> "View":
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def look(self, always: bool = False) -> None:
        """Read the folders and show changes, at most every few seconds, or say once that SLURM doesn't answer."""
        now = time.monotonic()
        if not always and now - self.looked < EVERY:
            return
        self.looked, before = now, self.latest
        try:
            self.latest = self.watched.statuses()
        except UserError as error:
            if self.answered:
                say(f"retrying: {error}")
            self.answered = False
            return
        self.answered = True
        if self.live:
            self.live.update(self.table(), refresh=True)
            return
        for line in self.watched.cells:
            status, known = self.latest[line.id], before.get(line.id)
            if status.name != "missing" and status.name != (known and known.name) and (known or status.name in WORKING):
                reason = f": {status.reason}" if status.name == "failed" else headline(status)
                say(f"{status.name}: {line.name}{reason}")
                self.reported = 0.0
        if now - self.reported > PLAIN_EVERY:
            self.reported = now
            say(self.summary())

    @property
    def unfinished(self) -> bool:
        """Whether cells run or wait in SLURM's queue, or may do so because SLURM didn't answer."""
        return not self.answered or any(status.name in WORKING for status in self.latest.values())

    def progress(self, status: CellStatus) -> tuple[int, int]:
        """The last logged step of a running cell, and T."""
        assert status.folder is not None
        return last_step(status.folder.path), status.folder.steps

    def summary(self) -> str:
        """Counts by status, and the remaining time by the estimates."""
        counts = Counter(status.name for status in self.latest.values())
        left = [0.0]  # seconds of each cell
        for line in self.watched.cells:
            status = self.latest[line.id]
            if status.name == "running":
                step, total = self.progress(status)
                left.append(line.seconds * (1 - step / total if total else 1))
            elif status.name in WAITING:
                left.append(line.seconds)
        whole = max(sum(left) / max(self.watched.workers, 1), *left)
        counted = ", ".join(f"{counts[name]} {name}" for name in COUNTED if counts[name])
        return f"{counted} of {len(self.latest)}" + (f"; about {duration(whole)} left" if whole else "")

    def table(self) -> Group:
        """The list for a terminal, cut to its height: running cells first, finished ones last."""
        lines = sorted(self.watched.cells, key=lambda line: LISTED.index(self.latest[line.id].name))
        table = Table.grid(padding=(0, 2))
        for line in lines[: max(1, console.height - 3)]:
            status = self.latest[line.id]
            rest: RenderableType = Text(status.reason if status.name in ("failed", "queued") else headline(status)[2:])
            if status.name == "running":
                step, total = self.progress(status)
                rest = Table.grid(padding=(0, 1))
                rest.add_row(ProgressBar(total or 1, step, width=20), Text(f"{step:,}/{total:,}"))
            style = {"failed": "red", "running": "bold", "done": "dim"}.get(status.name, "")
            table.add_row(Text(status.name, style), duration(line.seconds), Text(line.name), rest)
        return Group(table, Text(self.summary()))


def headline(status: CellStatus) -> str:
    """A finished run's headline metric, after a colon."""
    result = status.folder.result if status.name == "done" and status.folder else None
    return f": {(name := result.task['headline'])} {result.last[name]:.4f}" if result else ""


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
    console.print(f"{folder.name} has ended: {view.summary()}", markup=False)
