"""Show a finished run again without loading anything.

A run notes in the cache what was asked for, its folder, and the files that it read. If the same options
come again, and no file has changed in size or time, its result is shown. The hub isn't asked for newer files.
"""

import glob
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from adalora import processes
from adalora.config.schema import Config
from adalora.files.reading import Damaged, read_json
from adalora.files.writing import CHOOSE, write_json
from adalora.planning.identity import digest
from adalora.progress.terminal import say, show_result
from adalora.records.result import LOGS, damaged, read_finished
from adalora.run.folder import DONE, read_status
from tasks.options import LAYOUT

UNASKED = ("debug", "tracking", "wandb")  # options that a finished run doesn't use


class Note(BaseModel):
    """What a run leaves in the cache."""

    folder: Path
    files: dict[str, list[int] | None]  # by path: size and time of change


def recall(config: Config) -> dict[str, Any] | None:
    """Show the result of the run with these options if it is done; None if that takes a closer look."""
    if processes.count() > 1:
        return None
    try:
        note = read_json(place(config), Note, "remove it")
        if read_status(note.folder).status != "done" or stamps(map(Path, note.files)) != note.files:
            return None
        result = read_finished(note.folder)
    except Damaged:
        return None
    if any(damaged(note.folder, result.files, LOGS)):
        return None
    say(DONE.format(note.folder))
    show_result(found := result.as_dict(), config, note.folder)
    return found


def remember(config: Config, folder: Path, files: Iterable[Path], begun: int) -> None:
    """Note a finished run, and the files that it read, unless one of them has changed since.

    Args:
        config: its options.
        folder: its folder.
        files: what it read.
        begun: when it began to read, in nanoseconds since the epoch.

    Raises:
        UserError: the cache can't be written.
    """
    files = {path.expanduser().absolute() for path in files}
    folders = {parent for path in files for parent in path.parents[: levels(config)]}
    try:
        if any(path.stat().st_ctime_ns >= begun for path in (*files, *folders)):
            return
    except FileNotFoundError:
        return
    note = Note(folder=folder.absolute(), files=stamps({*files, *folders}))
    write_json(place(config), note.model_dump(mode="json"), CHOOSE.format("cache_dir"))


def levels(config: Config) -> int:
    """How many folders above a file to watch for new files that fit a pattern: one per path part from the pattern's
    first wildcard on, at least 1."""
    task = config.task
    names = [Path(name).parts for name in (task.train_file, task.eval_file) if name]
    return max((len(n) - i for n in names for i, part in enumerate(n) if glob.has_magic(part)), default=1)


def place(config: Config) -> Path:
    """The note's file, named after the options and the current folder, which relative paths start from."""
    options = {name: value for name, value in asdict(config).items() if name not in UNASKED}
    name = digest({"options": json.loads(json.dumps(options, default=str)), "cwd": str(Path.cwd()), "layout": LAYOUT})
    return Path(config.cache_dir).expanduser() / "finished" / f"{name}.json"


def stamps(files: Iterable[Path]) -> dict[str, list[int] | None]:
    """Size and time of change of every file, in nanoseconds; None: it is gone."""
    found: dict[str, list[int] | None] = {}
    for path in files:
        try:
            stat = path.stat()
            found[str(path)] = [stat.st_size, stat.st_mtime_ns]
        except OSError:
            found[str(path)] = None
    return found
