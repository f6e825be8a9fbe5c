"""What the run folders say of cells. Reads files only; imports no torch."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from adalora.lock import held
from adalora.reading import Damaged, read_lines
from adalora.resultfile import RECORDS, Result, read_result
from adalora.runfolder import FAILED, read_status
from adalora.sweep.queue import queued

StateName = Literal["running", "done", "queued", "failed", "interrupted", "died", "missing"]
ORDER: tuple[StateName, ...] = ("running", "done", "failed", "interrupted", "died")  # the first counts, of several
WAITING = ("queued", "missing", "interrupted", "died")  # to be run, or run on
TAIL = 65536  # bytes of metrics.jsonl that are looked at


class Content(NamedTuple):
    """Digests of what a run was of."""

    weights: str
    data: str


@dataclass(frozen=True)
class Folder:
    """One run's folder, its record, or the note of a failure that came before it."""

    path: Path
    state: StateName
    reason: str
    steps: int  # T
    recorded: bool = False  # whether `path` is a record, which may be all that is left of the run

    @cached_property
    def result(self) -> Result | None:
        """The result, where there is a sound one."""
        try:
            return read_result(self.path)
        except Damaged:
            return None

    @property
    def content(self) -> Content | None:
        """What a finished run was of."""
        return Content(self.result.model["digest"], self.result.task["digest"]) if self.result else None


@dataclass(frozen=True)
class State:
    """Where a cell stands."""

    name: StateName
    reason: str = ""  # why it failed, or the job it is queued as
    folders: Sequence[Folder] = ()

    @property
    def folder(self) -> Folder | None:
        """The folder that the state is of."""
        return next((folder for folder in self.folders if folder.state == self.name), None)

    @property
    def recorded(self) -> bool:
        """Whether there is a record of the cell."""
        return any(folder.recorded for folder in self.folders)

    @property
    def remark(self) -> str:
        """What tells several folders of one cell apart."""
        contents = {folder.content for folder in self.folders if folder.content}
        if len(contents) > 1:
            differ = [name for i, name in enumerate(Content._fields) if len({content[i] for content in contents}) > 1]
            return f"{len(contents)} finished runs with different {' and '.join(differ)}"
        runs = [folder for folder in self.folders if folder.path.parent.name != FAILED and not folder.recorded]
        return f"{len(runs)} runs: {', '.join(f'{run.path.name} {run.state}' for run in runs)}" if len(runs) > 1 else ""


def scan(root: Path, records: Path | None = None) -> dict[str, list[Folder]]:
    """Every run folder and failure note below `root`, and every sound record in `records`, by cell."""
    folders = defaultdict(list)
    for path in sorted([*root.glob("[!.]*/*/*/*/*/status"), *root.glob(f"{FAILED}/*/status")]):
        status = read_status(path.parent)
        name: StateName | None = status.status
        if name in ("running", "interrupted") and held(path.parent):  # the latter: a session that has just begun
            name = "running"
        elif name == "running":
            name = "died"
        if name in ORDER:
            folder = Folder(path.parent, name, status.reason, status.steps)
            for cell in status.cells:
                folders[cell].append(folder)
    for path in sorted(records.glob(RECORDS)) if records else []:
        record = Folder(path, "done", "", 0, recorded=True)
        if record.result is not None:
            folders[record.result.cell].append(record)
    return folders


def states(root: Path, cells: Mapping[str, Content | None], records: Path | None = None) -> dict[str, State]:
    """Where cells stand. Raises `UserError` if some may be in SLURM's queue, and SLURM doesn't answer.

    Args:
        root: the run root.
        cells: their identities, with the weights and data at hand where they are known.
        records: a folder of records (`adalora/sweep/records.py`), which count as done.
    """
    folders, jobs = scan(root, records), queued(root)
    return {cell: state_of(folders.get(cell, ()), content, jobs.get(cell)) for cell, content in cells.items()}


def state_of(folders: Sequence[Folder], content: Content | None = None, job: str | None = None) -> State:
    """Where a cell with these folders stands.

    Args:
        folders: the cell's (`scan`).
        content: digests of the weights and data at hand, where they are known: a run of others isn't this one.
        job: of SLURM's, that waits, is starting, or was queued again.
    """
    folders = [folder for folder in folders if content is None or folder.content in (None, content)]
    for name in ORDER:
        if name == "failed" and job is not None:
            return State("queued", f"SLURM job {job}", folders)
        for folder in folders:
            if folder.state == name:
                return State(name, folder.reason, folders)
    return State("missing")


def last_lines(folder: Path) -> tuple[int, Mapping[str, float]]:
    """The step a run has logged last, and its last evaluation."""
    step, evaluation = 0, dict[str, float]()
    try:
        lines, _ = read_lines(folder / "metrics.jsonl", TAIL)
    except Damaged:
        return step, evaluation
    for _, line in reversed(lines):
        step = max(step, line.step)
        if found := {name: value for name, value in line.numbers.items() if name.startswith("eval/")}:
            evaluation = {name.removeprefix("eval/"): value for name, value in found.items()}
            break
    return step, evaluation
