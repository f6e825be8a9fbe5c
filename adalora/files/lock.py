"""Lock a folder for one process, on one machine or on a shared file system.

`flock` does the locking; the system releases it when the process dies. Some shared file systems don't propagate it
between hosts, or don't support it. So the holder also writes its host into the lock file and touches it regularly: a
*heartbeat* that other hosts can see.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from adalora.errors import Busy
from adalora.files.writing import alive, writing

LOCK = ".lock"
PATIENCE = 0.3  # seconds to wait for a lock: a process that only checks it (`held`) releases it at once
BEAT = 15.0  # seconds between heartbeats
STALE = 90.0  # seconds without a heartbeat after which a holder on another host counts as gone
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # the file system has no flock


class Holder(NamedTuple):
    """Who holds a folder."""

    host: str
    pid: int


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder for this process while the block runs.

    Raises:
        Busy: another process holds it.
        UserError: the folder can't be created.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        deadline = time.monotonic() + PATIENCE
        while not free(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                who = f" (process {holder.pid} on {holder.host})" if (holder := read(file)) else ""
                raise Busy(f"another process{who} is working on {folder}: wait for it, or stop it")
            time.sleep(0.02)
        with writing(folder):
            write(file, Holder(socket.gethostname(), os.getpid()))
        ended = threading.Event()
        heart = threading.Thread(target=beat, args=(file, ended), daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            with suppress(OSError):  # closing the file releases flock anyway
                write(file, None)
    finally:
        os.close(file)


def held(folder: Path) -> bool:
    """Whether a running process holds the folder."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # no lock yet
        return False
    try:
        return not free(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def free(file: int, kind: int) -> bool:
    """Try to lock an open lock file. False if a process holds it, by flock or, on another host, by heartbeat."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        supported = True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        supported = False
    holder = read(file)
    if holder is None:
        return True
    if holder.host == socket.gethostname():
        gone = supported or not alive(holder.pid)  # on this host flock and the process table decide
    else:
        gone = abs(time.time() - os.fstat(file).st_mtime) > STALE
    if supported and not gone:
        fcntl.flock(file, fcntl.LOCK_UN)
    return gone


def beat(file: int, ended: threading.Event) -> None:
    """Touch the file until told to stop."""
    while not ended.wait(BEAT):
        with suppress(OSError):  # the file system hangs for a while
            os.utime(file)


def read(file: int) -> Holder | None:
    """The holder named in the file, if any."""
    try:
        found = json.loads(os.pread(file, 4096, 0))
        return Holder(str(found["host"]), int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(file: int, holder: Holder | None) -> None:
    """Write the holder, for `read` to read."""
    text = json.dumps(holder._asdict()).encode() if holder else b""
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))
