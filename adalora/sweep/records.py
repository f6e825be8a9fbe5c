"""Records of finished runs, which can outlive the run folders: the result, all evaluations, and the scores of single
rows where the type of task saves them as `predictions/<split>.json`; no paths.

A recorded cell counts as done for sweeps and tables. A record contains no data rows and no weights.
"""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from adalora.files.reading import Damaged, read_json, read_lines, sealed
from adalora.files.writing import READ_ONLY, check_writable, write_json
from adalora.progress.terminal import say
from adalora.records.result import Result, RowNumbers, damaged, portable, read_finished
from adalora.sweep.status import CellStatus, Content, scan, status_of

EVERY = 10.0  # seconds between looks at the run folders


class Recorder:
    """Record the runs of a sweep as they finish. Call `look` regularly.

    Args:
        root: the run root.
        cells: cell ids, with the digests of their weights and data.
        records: the folder to write to; None: keep no records.

    Raises:
        UserError: the folder can't be written.
    """

    def __init__(self, root: Path, cells: Mapping[str, Content], records: Path | None) -> None:
        self.root, self.cells, self.records = root, cells, records
        if records:
            check_writable(records, READ_ONLY)
        self.looked = 0.0
        self.tell = functools.cache(say)  # each line once

    def look(self, always: bool = False) -> None:
        """Record newly finished runs, at most every few seconds. Raises `UserError` if the folder can't be written."""
        now = time.monotonic()
        if self.records and (always or now - self.looked >= EVERY):
            self.looked = now
            folders = scan(self.root, self.records)  # no look at SLURM's queue, which may not answer
            found = {cell: status_of(folders.get(cell, ()), of) for cell, of in self.cells.items()}
            keep_records(found, self.records, self.tell)


def keep_records(
    statuses: Mapping[str, CellStatus], records: Path, tell: Callable[[str], None] = lambda line: None
) -> list[Path]:
    """Write a record of every finished cell without a valid one, and return the new files.

    A run with a damaged file isn't recorded.

    Args:
        statuses: the cells.
        records: the folder to write to.
        tell: called with a line for each damaged file.

    Raises:
        UserError: the folder can't be written.
    """
    written = []
    for status in statuses.values():
        if status.folder is None or status.name != "done" or status.recorded:
            continue
        try:
            result = record_of(status.folder.path)
        except Damaged as error:
            tell(f"not recorded: {error}")
            continue
        path = records / f"{result.task['name']}-{result.method['name']}-seed{result.seed}-{result.key}.json"
        write_json(path, sealed(result.as_dict()), READ_ONLY)
        written.append(path)
    return written


def record_of(folder: Path) -> Result:
    """Make the record of the run in `folder`, without evaluations if its log is damaged. Raises `Damaged`."""
    result = read_finished(folder)
    whole = not list(damaged(folder, result.files, ["metrics.jsonl"]))
    lines, _ = read_lines(folder / "metrics.jsonl") if whole else ([], 0)
    evaluations = [
        {"step": line.step, **found}
        for _, line in lines
        if (found := {name: value for name, value in line.numbers.items() if name.startswith("eval/")})
    ]
    remedy = f"remove {folder} and run it again"
    rows = {path.stem: read_json(path, RowNumbers, remedy) for path in sorted(folder.glob("predictions/*.json"))}
    return replace(result, command=portable(result.command), evaluations=evaluations, rows=rows)
