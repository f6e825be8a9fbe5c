"""Atomic writes; temporaries of living processes are kept, those of dead ones removed."""

import os
import socket

import pytest

from adalora.errors import UserError
from adalora.files.writing import WRITING, new_folder, write_text
from tests.programs import dead

HOST = socket.gethostname()


def test_two_that_write_side_by_side_leave_each_other_alone(tmp_path):
    other = tmp_path / f"{WRITING}theirs.{os.getppid()}@{HOST}"
    elsewhere = tmp_path / f"{WRITING}theirs.{dead()}@another-host"
    for folder in (other, elsewhere):
        folder.mkdir()
    with new_folder(tmp_path / "a") as a, new_folder(tmp_path / "b") as b:
        for place in (a, b):
            (place / "file").write_text(place.name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a", "b", other.name, elsewhere.name])


def test_what_dead_processes_left_is_removed_file_folder_or_link(tmp_path):
    pid = dead()
    (tmp_path / f"{WRITING}x.{pid}@{HOST}").mkdir()
    (tmp_path / f"{WRITING}y.{pid}@{HOST}").write_text("")
    (tmp_path / f"{WRITING}z.{pid}@{HOST}").symlink_to(tmp_path)
    old = tmp_path / f"{WRITING}w.{pid}@another-host"
    old.write_text("")
    os.utime(old, (0, 0))
    write_text(tmp_path / "new", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("stray", ["file", "folder"])
def test_something_in_a_temporary_s_place_is_no_obstacle(tmp_path, stray):
    for name in ("text", "folder"):
        place = tmp_path / f"{WRITING}{name}.{os.getpid()}@{HOST}"
        if stray == "file":
            place.write_text("")
        else:
            (place / "deep").mkdir(parents=True)
    write_text(tmp_path / "text", "new")
    with new_folder(tmp_path / "folder") as place:
        (place / "file").write_text("new")
    assert (tmp_path / "text").read_text() == (tmp_path / "folder" / "file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "text"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_that_came_in_between_is_replaced_or_kept(tmp_path, replace):
    with new_folder(tmp_path / "folder", replace) as place:
        (place / "file").write_text("ours")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").write_text("theirs")
    assert (tmp_path / "folder" / "file").read_text() == ("ours" if replace else "theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_message_ends_in_the_callers_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="File exists"),
        new_folder(tmp_path / "file" / "x", remedy="choose another"),
    ):
        pass
