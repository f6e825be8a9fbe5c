"""A run's folder: its key, its status, and the lock that says somebody is at work in it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, NonNegativeInt, PositiveInt

from adalora.cell import digest, scored_options
from adalora.config.schema import Config, Resolved
from adalora.errors import Interrupted, LostProcess, UserError
from adalora.files import WRITING, remove, write_json
from adalora.lock import locked
from adalora.methods.init_from import content_digest
from adalora.reading import Damaged, read_json
from adalora.resultfile import NAME, Result, read_finished

Status = Literal["running", "done", "failed", "interrupted"]
FAILED = ".failed"  # below the run root: a folder for each cell that failed before it had a run's folder


def run_key(config: Resolved, data_digest: str, weights_digest: str) -> str:
    """Ten hex digits over what changes the numbers: the resolved method and training, the model's
    and the data's content, seed and precision; not paths, tracking, device or budget names."""
    options = scored_options(config)
    options["model"]["weights"] = weights_digest
    options["task"]["rows"] = data_digest
    if (adapter := config.method.initial_adapter()) is not None:
        options["method"]["init_from"] = content_digest(adapter)
    return digest(options)


class RunFolder:
    """`<run_root>/<model>/<task>/<method>/<budget>/seed<seed>-<key>/`.

    Args:
        config: the resolved configuration.
        budget: its name in the path.
        key: `run_key`.
        cell: `cell_id` of the options that asked for this run. Other options may ask for the same run, so the
            status holds a list.
    """

    def __init__(self, config: Resolved, budget: str, key: str, cell: str) -> None:
        parts = (config.model.name, config.task.name, config.method.name, budget, f"seed{config.seed}-{key}")
        self.path = Path(config.run_root).expanduser().joinpath(*parts)
        self.key, self.cell, self.steps = key, cell, config.training.total_steps  # T, for those who watch

    def set_status(self, status: Status, reason: str | None = None) -> None:
        """Record the state, for which cells it holds, and why a run failed."""
        cells = sorted({self.cell, *read_status(self.path).cells})
        found = {"status": status, "pid": os.getpid(), "cells": cells, "steps": self.steps}
        write_json(self.path / "status", found | ({"reason": reason} if reason else {}))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process (`locked`), rid of what others left in the middle of writing."""
        with locked(self.path):
            for place in self.path.rglob(f"{WRITING}*"):
                remove(place)
            yield

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are while the run isn't done."""
        return self.path / "checkpoint"

    def drop_checkpoints(self) -> None:
        """Once the status says `done`: before, the run may still need one."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def finished(self, warn: Callable[[str], None]) -> Result | None:
        """The result of a run that is done; None where it has to be run, or run on.

        A run whose status alone is damaged is done; one without a sound result or adapter isn't.

        Args:
            warn: takes a line for the user.
        """
        try:
            done = read_state(self.path).status == "done"
        except Damaged as error:
            done = not error.missing and (self.path / NAME).exists()
            if not error.missing:
                warn(f"{error.path} is damaged ({error.reason}): written anew")
        if not done:
            return None
        try:
            result = read_finished(self.path)
        except Damaged as error:
            warn(f"{str(error).rpartition(':')[0]}: the run is repeated")
            return None
        if self.cell not in read_status(self.path).cells:  # the one that this cell asks for, too
            self.set_status("done")
        return result


class State(BaseModel):
    """What `status` holds, as the last session left it: `steps` is T, `cells` those that asked for the run."""

    status: Status | None = None
    pid: PositiveInt | None = None
    cells: list[str] = []
    steps: NonNegativeInt = 0
    reason: str = ""


def read_state(folder: Path) -> State:
    """The state of a run. Raises `Damaged`."""
    return read_json(folder / "status", State, "run the same command again")


def read_status(folder: Path) -> State:
    """The state of a run; empty before the first session, and where the file is damaged: the next one writes it."""
    try:
        return read_state(folder)
    except Damaged:
        return State()


@contextmanager
def noting_failure(config: Config, cell: str) -> Iterator[None]:
    """Record a failure that comes before there is a run's folder (no data, say), until the cell gets that far."""
    root = Path(config.run_root).expanduser()
    try:
        yield
    except (Interrupted, KeyboardInterrupt, SystemExit, LostProcess):
        raise
    except BaseException as error:
        with suppress(UserError):  # where nothing can be written, the error itself counts
            note_failure(root, cell, explained(error))
        raise
    shutil.rmtree(root / FAILED / cell, ignore_errors=True)


def note_failure(root: Path, cell: str, reason: str) -> None:
    """Record that a cell failed outside a run's folder. Raises `UserError` where it can't be written."""
    write_json(root / FAILED / cell / "status", {"status": "failed", "cells": [cell], "reason": reason})


def explained(error: BaseException) -> str:
    """Why a run failed, in one line: our own messages as they are, others with their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
