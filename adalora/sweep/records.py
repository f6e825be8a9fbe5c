"""Small records of finished runs, which outlive the run folders: a result with its evaluations, and no path.

A record counts as done for sweeps and tables. It holds no row of the data and no weight.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from adalora.files import write_json
from adalora.reading import Damaged, read_lines, sealed
from adalora.resultfile import Result, portable, read_finished
from adalora.sweep.states import Content, State, states

EVERY = 10.0  # seconds between looks at the run folders


class Recorder:
    """Records the runs of a sweep as they end. To be called now and then (`look`).

    Args:
        root: the run root.
        cells: the cells by identity, with the digests of their weights and data.
        records: the folder to write to; None: no records are kept.
    """

    def __init__(self, root: Path, cells: Mapping[str, Content], records: Path | None) -> None:
        self.root, self.cells, self.records = root, cells, records
        self.looked = 0.0

    def look(self, always: bool = False) -> None:
        """Record what has ended since, at most every few seconds. Raises `UserError`: the folder can't be written."""
        now = time.monotonic()
        if self.records and (always or now - self.looked >= EVERY):
            self.looked = now
            keep_records(states(self.root, self.cells, self.records), self.records)


def keep_records(states: Mapping[str, State], records: Path) -> list[Path]:
    """Write a record of every cell that is done and has no sound one, and return the new files.

    A run whose result or adapter is damaged gets none: its next run writes them anew.

    Raises:
        UserError: the folder can't be written.
    """
    written = []
    for state in states.values():
        if state.folder is None or state.name != "done" or state.recorded:
            continue
        try:
            result = record_of(state.folder.path)
        except Damaged:
            continue
        path = records / f"{result.task['name']}-{result.method['name']}-seed{result.seed}-{result.key}.json"
        write_json(path, sealed(result.as_dict()))
        written.append(path)
    return written


def record_of(folder: Path) -> Result:
    """The record of the run in `folder`. Raises `Damaged`."""
    result = read_finished(folder)
    lines, _ = read_lines(folder / "metrics.jsonl")
    evaluations = [
        {"step": line.step, **found}
        for _, line in lines
        if (found := {name: value for name, value in line.numbers.items() if name.startswith("eval/")})
    ]
    return replace(result, command=portable(result.command), evaluations=evaluations)
