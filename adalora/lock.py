"""A folder held by one process, on one machine or on a file system that several share.

`flock` says who holds a folder: the system lets go of it when the process dies, however it dies. Some shared file
systems don't carry it from host to host, or refuse it. So the holder also writes its host into the file, and touches
the file now and then: a *heartbeat*, by which the others know it.
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
from adalora.files import alive, writing

LOCK = ".lock"
PATIENCE = 0.3  # seconds to wait for a lock: whoever only looks whether it is held (`held`) lets go at once
BEAT = 15.0  # seconds between heartbeats
STALE = 90.0  # seconds without one, after which a holder on another host is gone
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # a file system without flock


class Holder(NamedTuple):
    """Who holds a folder."""

    host: str
    pid: int


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process.

    Raises:
        Busy: another process holds it.
        UserError: the folder can't be made.
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
            with suppress(OSError):  # flock lets go of it all the same
                write(file, None)
    finally:
        os.close(file)


def held(folder: Path) -> bool:
    """Whether a living process works in the folder."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # no lock yet
        return False
    try:
        return not free(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def free(file: int, kind: int) -> bool:
    """Take an open lock file, if no process holds it: neither by flock nor, elsewhere, by heartbeat."""
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
        gone = supported or not alive(holder.pid)  # flock, or the system, knows
    else:
        gone = abs(time.time() - os.fstat(file).st_mtime) > STALE
    if supported and not gone:
        fcntl.flock(file, fcntl.LOCK_UN)
    return gone


def beat(file: int, ended: threading.Event) -> None:
    """Touch the file until the end."""
    while not ended.wait(BEAT):
        with suppress(OSError):  # a file system that hangs for a while
            os.utime(file)


def read(file: int) -> Holder | None:
    """The process that the file names; None where it names none."""
    try:
        found = json.loads(os.pread(file, 4096, 0))
        return Holder(str(found["host"]), int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(file: int, holder: Holder | None) -> None:
    """Replace what `read` reads."""
    text = json.dumps(holder._asdict()).encode() if holder else b""
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))
