"""The status of cells, from run folders and records. Only reads files."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from adalora.files.lock import held
from adalora.files.reading import Damaged, read_lines
from adalora.records.result import RECORDS, Result, read_result
from adalora.run.folder import FAILED, status_or_empty
from adalora.sweep.slurm import queued

StatusName = Literal["running", "done", "queued", "failed", "interrupted", "died", "missing"]
ORDER: tuple[StatusName, ...] = ("running", "done", "failed", "interrupted", "died")  # of several, the first counts
WAITING = ("queued", "missing", "interrupted", "died")  # still to be started or resumed
TAIL = 65536  # bytes read from the end of metrics.jsonl


class Content(NamedTuple):
    """Digests of a run's weights and data."""

    weights: str
    data: str


@dataclass(frozen=True)
class Folder:
    """A run folder, a run's record, or the note of a failure before there was a folder."""

    path: Path
    status: StatusName
    reason: str
    steps: int  # T
    recorded: bool = False  # whether `path` is a record

    @cached_property
    def result(self) -> Result | None:
        """The result, if there is a valid one."""
        try:
            return read_result(self.path)
        except Damaged:
            return None

    @property
    def content(self) -> Content | None:
        """Digests of weights and data of a finished run."""
        return Content(self.result.model["digest"], self.result.task["digest"]) if self.result else None


@dataclass(frozen=True)
class CellStatus:
    """The status of a cell."""

    name: StatusName
    reason: str = ""  # why it failed, or its SLURM job
    folders: Sequence[Folder] = ()

    @property
    def folder(self) -> Folder | None:
        """The folder with this status."""
        return next((folder for folder in self.folders if folder.status == self.name), None)

    @property
    def recorded(self) -> bool:
        """Whether there is a record of the cell."""
        return any(folder.recorded for folder in self.folders)

    @property
    def remark(self) -> str:
        """How the folders differ, if the cell has several."""
        contents = {folder.content for folder in self.folders if folder.content}
        if len(contents) > 1:
            differ = [name for i, name in enumerate(Content._fields) if len({content[i] for content in contents}) > 1]
            return f"{len(contents)} finished runs with different {' and '.join(differ)}"
        runs = [folder for folder in self.folders if folder.path.parent.name != FAILED and not folder.recorded]
        return (
            f"{len(runs)} runs: {', '.join(f'{run.path.name} {run.status}' for run in runs)}" if len(runs) > 1 else ""
        )


def scan(root: Path, records: Path | None = None) -> dict[str, list[Folder]]:
    """Find every run folder and failure note below `root`, and every valid record in `records`, by cell."""
    folders = defaultdict(list)
    for path in sorted([*root.glob("[!.]*/*/*/*/*/status"), *root.glob(f"{FAILED}/*/status")]):
        file = status_or_empty(path.parent)
        name: StatusName | None = file.status
        if name in ("running", "interrupted") and held(path.parent):  # interrupted: a new session has just begun
            name = "running"
        elif name == "running":
            file = status_or_empty(path.parent)  # it may just have ended
            name = "died" if file.status == "running" else file.status
        if name in ORDER:
            folder = Folder(path.parent, name, file.reason, file.steps)
            for cell in file.cells:
                folders[cell].append(folder)
    for path in sorted(records.glob(RECORDS)) if records else []:
        record = Folder(path, "done", "", 0, recorded=True)
        if record.result is not None:
            folders[record.result.cell].append(record)
    return folders


def statuses(root: Path, cells: Mapping[str, Content | None], records: Path | None = None) -> dict[str, CellStatus]:
    """The statuses of cells. Raises `UserError` if some may be in SLURM's queue and SLURM doesn't answer.

    Args:
        root: the run root.
        cells: cell ids, with the digests of the current weights and data if they are known.
        records: a folder of records (`adalora/sweep/records.py`), which count as done.
    """
    folders, jobs = scan(root, records), queued(root)
    return {cell: status_of(folders.get(cell, ()), content, jobs.get(cell)) for cell, content in cells.items()}


def status_of(folders: Sequence[Folder], content: Content | None = None, job: str | None = None) -> CellStatus:
    """The status of a cell with these folders.

    Args:
        folders: the cell's folders (`scan`).
        content: digests of the current weights and data, if known; finished runs with others are ignored.
        job: the cell's SLURM job, if it is waiting, starting or requeued.
    """
    if content is not None:  # a finished run whose result can't be read is run again
        folders = [f for f in folders if f.content == content or (f.content is None and f.status != "done")]
    for name in ORDER:
        if name == "failed" and job is not None:
            return CellStatus("queued", f"SLURM job {job}", folders)
        for folder in folders:
            if folder.status == name:
                return CellStatus(name, folder.reason, folders)
    return CellStatus("missing")


def last_step(folder: Path) -> int:
    """The last logged step of a run."""
    try:
        lines, _ = read_lines(folder / "metrics.jsonl", TAIL)
    except Damaged:
        return 0
    return max((line.step for _, line in lines), default=0)
