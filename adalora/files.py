"""Files written whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from adalora.errors import UserError

REMEDIES = {  # of what another place needn't help
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EFBIG: "raise the file-size limit (ulimit -f) and run the same command again",
}
WRITING = ".writing-"  # how the names of temporaries start
ABANDONED = 86400.0  # seconds after which another host's temporary is taken to be abandoned


@contextmanager
def writing(place: Path, option: str = "run_root") -> Iterator[None]:
    """Turn a failed write to `place`, which `option` chose, into one line for the user.

    Raises:
        UserError: disk full, no permission, a path that can't be a folder.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error_number(error)
        if number is None:
            raise
        raise UserError(unwritable(place, number, option)) from error


def unwritable(place: Path | str, number: int, option: str = "run_root") -> str:
    """One line for the system's error `number` in writing to `place`, which `option` chose."""
    remedy = REMEDIES.get(number, f"choose a place you can write with {option}=FOLDER")
    return f"{place} can't be written ({os.strerror(number)}): {remedy}"


def error_number(error: Exception) -> int | None:
    """The system's number of a failed write; safetensors has it in its text only."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`: written beside it, synced, renamed."""
    with writing(path), temporary(path) as place:
        place.write_text(text, encoding="utf-8")
        sync(place)
        os.replace(place, path)
        sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


@contextmanager
def new_folder(path: Path, replace: bool = True, option: str = "run_root") -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes otherwise.

    Args:
        path: its place in the end.
        replace: whether it takes the place of a folder that is there by then, or vanishes beside it.
        option: what chose the place.

    Raises:
        UserError: it can't be written.
    """
    with writing(path, option), temporary(path) as place:
        place.mkdir()
        yield place
        for file in place.rglob("*"):
            sync(file)
        sync(place)
        try:
            place.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if replace:
                with temporary(path.with_name(f"old-{path.name}")) as old:
                    path.rename(old)
                    place.rename(path)
        sync(path.parent)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A name beside `path` that no other process uses, for what will become `path`; nothing is there after the block.

    Makes the parent folder, and removes what dead processes left there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(path.parent)
    place = path.with_name(f"{WRITING}{path.name}.{os.getpid()}@{socket.gethostname()}")
    remove(place)
    try:
        yield place
    finally:
        remove(place)


def remove_temporaries(folder: Path) -> None:
    """Remove from a folder what dead processes were writing there."""
    for place in folder.glob(f"{WRITING}*"):
        if abandoned(place):
            remove(place)


def abandoned(place: Path) -> bool:
    """Whether the process that made a temporary is gone, as far as can be told from here."""
    name, _, host = place.name.rpartition("@")
    pid = name.rpartition(".")[2]
    if host == socket.gethostname() and pid.isdecimal():
        return not alive(int(pid))
    try:
        return time.time() - place.lstat().st_mtime > ABANDONED
    except FileNotFoundError:  # it has just ended
        return False


def alive(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def remove(place: Path) -> None:
    """Remove a file, a link or a folder; nothing where there is none."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
