"""A cell's status from run folders and from notes of earlier failures."""

import fcntl
import json

import pytest

from adalora.sweep.status import Content, last_step, scan, status_of
from tests.reporting.forged import make as forged


@pytest.fixture
def run(tmp_path):
    """`run("a", "done", cells=["c"])`: a run's folder below the test's run root."""

    def make(name, status, cells=("c",), weights="w", data="d", **more):
        folder = tmp_path / "model" / "task" / "method" / "budget" / name
        folder.mkdir(parents=True)
        (folder / "status").write_text(json.dumps({"status": status, "cells": list(cells), "steps": 9, **more}))
        if status == "done":
            result = forged(model__digest=weights, task__digest=data)
            (folder / "result.json").write_text(json.dumps(result))
        return folder

    return make


def test_a_cell_without_a_folder_is_missing(tmp_path, run):
    run("a", "done", cells=["other"])
    assert status_of(scan(tmp_path).get("c", ())).name == "missing"


@pytest.mark.parametrize("status, without", [("running", "died"), ("interrupted", "interrupted")])
def test_running_means_that_somebody_holds_the_lock(tmp_path, run, status, without):
    folder = run("a", status)
    assert status_of(scan(tmp_path)["c"]).name == without
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert status_of(scan(tmp_path)["c"]).name == "running"
    assert status_of(scan(tmp_path)["c"]).name == without


def test_failures_have_their_reason_with_or_without_a_folder(tmp_path, run):
    run("a", "failed", reason="NaN")
    note = tmp_path / ".failed" / "early"
    note.mkdir(parents=True)
    (note / "status").write_text(json.dumps({"status": "failed", "cells": ["early"], "reason": "no data"}))
    found = scan(tmp_path)
    assert [status_of(found[cell]).reason for cell in ("c", "early")] == ["NaN", "no data"]


def test_folders_that_differ_in_data_or_weights_are_told_apart(tmp_path, run):
    run("a", "done")
    run("b", "done", data="other")
    status = status_of(scan(tmp_path)["c"])
    assert (status.name, status.remark) == ("done", "2 finished runs with different data")
    run("e", "done", weights="more")
    assert status_of(scan(tmp_path)["c"]).remark == "3 finished runs with different weights and data"


def test_a_run_of_other_data_is_not_this_one_once_the_data_are_known(tmp_path, run):
    run("a", "done", data="other")
    folders = scan(tmp_path)["c"]
    assert status_of(folders).name == "done"
    assert status_of(folders, Content("w", "other")).name == "done"
    assert status_of(folders, Content("w", "d")).name == "missing"


def test_damaged_files_are_no_runs(tmp_path, run):
    (run("a", "done") / "status").write_text("{")
    (run("b", "done", cells=["x"]) / "result.json").write_text("[")
    assert "c" not in scan(tmp_path)
    broken = scan(tmp_path)["x"]
    assert status_of(broken).folder.content is None
    assert status_of(broken, Content("w", "d")).name == "missing"  # a sweep runs it again


def test_a_run_that_ends_while_it_is_looked_at_has_not_died(tmp_path, run, monkeypatch):
    folder = run("a", "running")

    def ends(path):
        (folder / "status").write_text(json.dumps({"status": "done", "cells": ["c"], "steps": 9}))
        return False

    monkeypatch.setattr("adalora.sweep.status.held", ends)
    assert status_of(scan(tmp_path)["c"]).name == "done"


def test_progress_is_read_from_the_end_of_the_log(run):
    folder = run("a", "running")
    assert last_step(folder) == 0
    lines = [{"step": 5, "eval/accuracy": 0.5}, {"step": 6, "train/loss": 1.0}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 7, "tr')
    assert last_step(folder) == 6
