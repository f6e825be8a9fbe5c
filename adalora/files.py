"""Files written whole or not at all."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from adalora.errors import UserError


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn a failed write to `place` into one line for the user.

    Raises:
        UserError: disk full, no permission, a path that can't be a folder.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error_number(error)
        if number is None:
            raise
        remedy = {
            errno.ENOSPC: "free some space and run the same command again",
            errno.EDQUOT: "free some of your quota and run the same command again",
            errno.EFBIG: "raise the file-size limit (ulimit -f) and run the same command again",
        }.get(number, "choose a place you can write with run_root=FOLDER")
        raise UserError(f"{place} can't be written ({os.strerror(number)}): {remedy}") from error


def error_number(error: Exception) -> int | None:
    """The system's number of a failed write; safetensors has it in its text only."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`: written beside it, synced, renamed."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8")
            sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes otherwise.

    An existing `path` is replaced.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(".writing-*"):
            shutil.rmtree(stale)
        temporary = path.parent / f".writing-{path.name}"
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            if path.exists():
                path.rename(path.parent / f".writing-old-{path.name}")
            temporary.rename(path)
            shutil.rmtree(path.parent / f".writing-old-{path.name}", ignore_errors=True)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
