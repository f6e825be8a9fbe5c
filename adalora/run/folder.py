"""A run folder: its key, status and lock."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, NonNegativeInt, PositiveInt

from adalora.config.schema import Config, Resolved
from adalora.errors import Interrupted, LostProcess, UserError
from adalora.files.reading import Damaged, read_json
from adalora.files.writing import write_json
from adalora.planning.identity import digest, scored_options
from adalora.records.result import LOGS, NAME, Result, damaged, read_finished

Status = Literal["running", "done", "failed", "interrupted"]
DONE = "{} is done, showing its result (remove the folder to repeat the run)"
FAILED = ".failed"  # below the run root: a folder per cell that failed before it had a run folder


def run_key(config: Resolved, data_digest: str, token_digests: Sequence[str], weights_digest: str) -> str:
    """Hash what changes the numbers to ten hex digits.

    These are the resolved method and training, the content of model and data, the rows as the tokenizer gives them to
    the model, seed and precision; not paths, tracking, device or budget names."""
    options = scored_options(config)
    options["model"]["weights"] = weights_digest
    options["task"] |= {"rows": data_digest, "tokens": list(token_digests)}
    if (adapter := config.method.initial_adapter()) is not None:
        options["method"]["init_from"] = adapter.digest
    return digest(options)


class RunFolder:
    """`<run_root>/<model>/<task>/<method>/<budget>/seed<seed>-<key>/`.

    Args:
        config: the resolved configuration.
        budget: the budget's name in the path.
        key: `run_key`.
        cell: `cell_id` of the requested options. Different options can lead to the same run, so the status has a list.
    """

    def __init__(self, config: Resolved, budget: str, key: str, cell: str) -> None:
        parts = (config.model.name, config.task.name, config.method.name, budget, f"seed{config.seed}-{key}")
        self.path = Path(config.run_root).expanduser().joinpath(*parts)
        self.key, self.cell, self.steps = key, cell, config.training.total_steps  # T, for the live view

    def set_status(self, status: Status, reason: str | None = None) -> None:
        """Write the status, the cells that it applies to, and why the run failed."""
        cells = sorted({self.cell, *status_or_empty(self.path).cells})
        found = {"status": status, "pid": os.getpid(), "cells": cells, "steps": self.steps}
        write_json(self.path / "status", found | ({"reason": reason} if reason else {}))

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, until the run is done."""
        return self.path / "checkpoint"

    def drop_checkpoints(self) -> None:
        """Delete the checkpoints. Only once the status is `done`: until then the run may need them."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def finished(self, warn: Callable[[str], None]) -> Result | None:
        """The result if the run is done; None if it must be started or resumed.

        Only a valid result and adapter count: the run may have been stopped after them, before its status was written.

        Args:
            warn: called with a line for the user.
        """
        try:
            status = read_status(self.path)
        except Damaged as error:
            status = StatusFile()
            if not error.missing:
                warn(f"{error.path} is damaged ({error.reason}): rewritten")
        if status.status != "done" and not (self.path / NAME).exists():
            return None
        try:
            result = read_finished(self.path)
        except Damaged as error:
            warn(f"{str(error).rpartition(':')[0]}: the run is repeated")
            return None
        for fault in damaged(self.path, result.files, LOGS):
            warn(f"{str(fault).rpartition(':')[0]}: the result stands, but reports leave this log out")
        if status.status != "done" or self.cell not in status.cells:  # another cell may lead to the same run
            self.set_status("done")
        return result


class StatusFile(BaseModel):
    """The content of `status`: `steps` is T, `cells` are the cells that lead to this run."""

    status: Status | None = None
    pid: PositiveInt | None = None
    cells: list[str] = []
    steps: NonNegativeInt = 0
    reason: str = ""


def read_status(folder: Path) -> StatusFile:
    """Read the status of a run. Raises `Damaged`."""
    return read_json(folder / "status", StatusFile, "run the same command again")


def status_or_empty(folder: Path) -> StatusFile:
    """Read the status of a run; empty if the file is missing or damaged."""
    try:
        return read_status(folder)
    except Damaged:
        return StatusFile()


@contextmanager
def noting_failure(config: Config, cell: str) -> Iterator[None]:
    """Leave a note if the run fails before it has a folder, for missing data, say. A later success removes it."""
    root = Path(config.run_root).expanduser()
    try:
        yield
    except (Interrupted, KeyboardInterrupt, SystemExit, LostProcess):
        raise
    except BaseException as error:
        with suppress(UserError):  # if nothing can be written, report the original error
            note_failure(root, cell, describe_error(error))
        raise
    shutil.rmtree(root / FAILED / cell, ignore_errors=True)


def note_failure(root: Path, cell: str, reason: str) -> None:
    """Note that a cell failed without a run folder. Raises `UserError` if that can't be written."""
    write_json(root / FAILED / cell / "status", {"status": "failed", "cells": [cell], "reason": reason})


def describe_error(error: BaseException) -> str:
    """Describe an error in one line: our own messages as they are, others with their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
