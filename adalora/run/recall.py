"""Show a finished run again without loading anything.

A run notes in the cache what was asked for, its folder, and the files that it read. If the same options
come again, and no file has changed in size or time, its result is shown. The hub isn't asked for newer files.
"""

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
from adalora.progress.terminal import show_result, warn
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
    warn(DONE.format(note.folder))
    show_result(found := result.as_dict(), config, note.folder)
    return found


def remember(config: Config, folder: Path, files: Iterable[Path]) -> None:
    """Note a finished run, and the files that it read. Raises `UserError` if the cache can't be written."""
    files = {path.expanduser().absolute() for path in files}
    note = Note(folder=folder.absolute(), files=stamps({*files, *(path.parent for path in files)}))
    write_json(place(config), note.model_dump(mode="json"), CHOOSE.format("cache_dir"))


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
