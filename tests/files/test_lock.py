"""Who holds a folder: by flock or, where flock doesn't work, by host and heartbeat."""

import errno
import fcntl
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from adalora.errors import Busy
from adalora.files import lock
from adalora.files.lock import STALE, held, locked
from tests.programs import dead


def holder(folder, host, pid, age=0.0):
    """Leave the lock file of a holder that touched it `age` seconds ago."""
    file = folder / ".lock"
    file.write_text(json.dumps({"host": host, "pid": pid}))
    os.utime(file, (time.time() - age,) * 2)


@pytest.fixture
def no_flock(monkeypatch):
    """A file system that refuses it, as Lustre may."""

    def refuse(file, kind):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_folder_is_held_until_the_block_ends(tmp_path):
    assert not held(tmp_path)
    with locked(tmp_path):
        assert held(tmp_path)
        with (
            pytest.raises(Busy, match=rf"process {os.getpid()} on {socket.gethostname()}\) is working on"),
            locked(tmp_path),
        ):
            pass
        assert held(tmp_path)
    assert not held(tmp_path)
    assert (tmp_path / ".lock").read_text() == ""  # nothing for another host to wait for


def test_a_look_never_makes_a_lock_fail(tmp_path):
    with ThreadPoolExecutor() as pool:
        looks = pool.submit(lambda: [held(tmp_path) for _ in range(2000)])
        while not looks.done():
            with locked(tmp_path):
                pass
    looks.result()


def test_another_host_is_known_by_its_heartbeat(tmp_path):
    holder(tmp_path, "elsewhere", 1)
    assert held(tmp_path)
    with pytest.raises(Busy, match="on elsewhere"), locked(tmp_path):
        pass
    holder(tmp_path, "elsewhere", 1, age=STALE + 5)  # its node died
    assert not held(tmp_path)
    with locked(tmp_path):
        assert held(tmp_path)


def test_on_this_host_flock_alone_tells(tmp_path):
    holder(tmp_path, socket.gethostname(), os.getpid())  # killed a moment ago, its number given to another
    assert not held(tmp_path)


@pytest.mark.usefixtures("no_flock")
def test_without_flock_the_process_tells(tmp_path):
    holder(tmp_path, socket.gethostname(), os.getppid())
    assert held(tmp_path)
    holder(tmp_path, socket.gethostname(), dead())
    assert not held(tmp_path)
    with locked(tmp_path):
        assert held(tmp_path)
    holder(tmp_path, "elsewhere", dead())
    assert held(tmp_path)


def test_the_holder_touches_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with locked(tmp_path):
        os.utime(tmp_path / ".lock", (0, 0))
        deadline = time.monotonic() + 5
        while (tmp_path / ".lock").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - (tmp_path / ".lock").stat().st_mtime < 5


@pytest.mark.parametrize("text", ["", "[]", "{", '{"host": 1}', "\x00\xff"])
def test_a_damaged_lock_holds_nobody_up(tmp_path, text):
    (tmp_path / ".lock").write_text(text)
    assert not held(tmp_path)
    with locked(tmp_path):
        assert held(tmp_path)
