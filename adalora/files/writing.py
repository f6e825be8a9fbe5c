"""Atomic file writes."""

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

REMEDIES = {  # errors that another folder may not solve
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EFBIG: "raise the file-size limit (ulimit -f) and run the same command again",
}
CHOOSE = "choose a folder you can write to with {}=FOLDER"  # takes the option that sets the folder
RUN_ROOT = CHOOSE.format("run_root")
READ_ONLY = "make the folder writable and run the same command again"  # for folders that no option sets
WRITING = ".writing-"  # prefix of temporary names
ABANDONED = 86400.0  # seconds after which a temporary of another host counts as abandoned


@contextmanager
def writing(path: Path, remedy: str = RUN_ROOT) -> Iterator[None]:
    """Turn a failed write to `path` into a one-line `UserError` with the remedy.

    Raises:
        UserError: the disk is full, permission is denied, or the path can't be a folder.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error_number(error)
        if number is None:
            raise
        raise UserError(unwritable(path, number, remedy)) from error


def unwritable(path: Path | str, number: int, remedy: str = RUN_ROOT) -> str:
    """The message for system error `number` while writing to `path`. A full disk has a remedy of its own."""
    return f"{path} can't be written ({os.strerror(number)}): {REMEDIES.get(number, remedy)}"


def error_number(error: Exception) -> int | None:
    """The errno of a failed write; safetensors only has it in its message."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def umask() -> int:
    """The permissions that the user withholds from new files."""
    value = os.umask(0)
    os.umask(value)
    return value


def sync(path: Path) -> None:
    """Flush a file or folder to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, remedy: str = RUN_ROOT) -> None:
    """Replace `path` by `text` atomically: write a temporary, sync, rename. Raises `UserError` with the remedy."""
    with writing(path, remedy), temporary(path) as new:
        new.write_text(text, encoding="utf-8")
        sync(new)
        os.replace(new, path)
        sync(path.parent)


def write_json(path: Path, value: Any, remedy: str = RUN_ROOT) -> None:
    """Replace `path` by `value` as indented JSON. Raises `UserError` with the remedy."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n", remedy)


def check_writable(folder: Path, remedy: str = RUN_ROOT) -> None:
    """Raise `UserError` with the remedy if a file can't be written into a folder, which is created."""
    with writing(folder, remedy), temporary(folder / "probe") as probe:
        probe.touch()


@contextmanager
def new_folder(path: Path, replace: bool = True, remedy: str = RUN_ROOT) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` if the block succeeds and is removed otherwise.

    Args:
        path: the final path.
        replace: whether it replaces a folder that exists by then; otherwise it is discarded.
        remedy: what to do if it can't be written.

    Raises:
        UserError: it can't be written.
    """
    with writing(path, remedy), temporary(path) as new:
        new.mkdir()
        yield new
        mode = 0o666 & ~umask()
        for file in new.rglob("*"):
            if file.is_file():
                file.chmod(mode)  # safetensors creates files that only their owner may read
            sync(file)
        sync(new)
        try:
            new.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if replace:
                with temporary(path.with_name(f"old-{path.name}")) as old:
                    path.rename(old)
                    new.rename(path)
        sync(path.parent)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Yield a unique temporary path next to `path`; it is removed after the block.

    Creates the parent folder, and removes temporaries of dead processes from it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f"{WRITING}*"):
        if abandoned(old):
            remove(old)
    new = path.with_name(f"{WRITING}{path.name}.{os.getpid()}@{socket.gethostname()}")
    remove(new)
    try:
        yield new
    finally:
        remove(new)


def abandoned(path: Path) -> bool:
    """Whether the process that made a temporary is gone, as far as this host can tell."""
    name, _, host = path.name.rpartition("@")
    pid = name.rpartition(".")[2]
    if host == socket.gethostname() and pid.isdecimal():
        return not alive(int(pid))
    try:
        return time.time() - path.lstat().st_mtime > ABANDONED
    except FileNotFoundError:  # removed just now
        return False


def alive(pid: int) -> bool:
    """Whether a process with this id exists on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # owned by another user
        pass
    return True


def remove(path: Path) -> None:
    """Remove a file, link or folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
