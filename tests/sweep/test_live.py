"""The live view, over folders that a test writes."""

import fcntl
import json

import pytest
from rich.console import Console

from adalora.errors import UserError
from adalora.sweep import live
from adalora.sweep.live import View, Watched, WatchedCell, newest
from adalora.sweep.status import Content
from tests.reporting.forged import make


@pytest.fixture
def root(tmp_path):
    """A run root with a finished, a running and a failed run; the test holds the running one's lock."""

    def run(name, status, **more):
        folder = tmp_path / "model/task/method/budget" / name
        folder.mkdir(parents=True)
        (folder / "status").write_text(json.dumps({"status": status, "cells": [name], "steps": 40, **more}))
        return folder

    (run("a", "done") / "result.json").write_text(json.dumps(make(model__digest="w", task__digest="d", last=0.75)))
    at_work = run("b", "running")
    (at_work / "metrics.jsonl").write_text('{"step": 10, "eval/loss": 0.6, "eval/accuracy": 0.5}\n')
    run("c", "failed", reason="NaN [bold]")
    with (at_work / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def watched(root, workers=2):
    lines = [WatchedCell(cell, f"task method {cell}", 100.0, Content("w", "d")) for cell in "abcd"]
    return Watched(str(root), workers, lines)


@pytest.fixture
def listed(root, monkeypatch):
    """`listed(height)`: the lines that a terminal of this height shows."""

    def go(height):
        console = Console(record=True, force_terminal=True, width=100, height=height)
        monkeypatch.setattr(live, "console", console)
        with View(watched(root)) as view:
            view.look()
        console.export_text()  # forgets what the view has shown
        console.print(view.table())
        return [line.rstrip() for line in console.export_text().splitlines() if line.strip()]

    return go


def test_a_terminal_shows_the_list_with_a_bar_for_what_runs(listed):
    lines = listed(30)
    assert [line.split()[0] for line in lines[:4]] == ["running", "failed", "missing", "done"]
    assert "━" in lines[0] and lines[0].endswith("10/40")
    assert lines[1].endswith("task method c  NaN [bold]")
    assert lines[3].endswith("task method a  accuracy 0.7500")
    # one whole cell and three quarters of the running one, by two workers: 175 s / 2, but the whole one takes 100 s
    assert lines[4:] == ["1 done, 1 running, 1 failed, 1 missing of 4; about 2 min left"]


def test_a_short_terminal_shows_what_runs(listed):
    assert [line.split()[0] for line in listed(4)] == ["running", "1"]


def test_a_log_file_gets_a_line_for_every_change_once(root, capsys, monkeypatch):
    monkeypatch.setattr(live, "console", Console(force_terminal=False, width=100))
    view = View(watched(root)).__enter__()
    view.look(always=True)
    first = capsys.readouterr().out
    assert "running: task method b" in first
    assert "task method a" not in first  # of an earlier sweep
    view.look(always=True)
    assert capsys.readouterr().out == ""
    status = root / "model/task/method/budget/d/status"
    status.parent.mkdir()
    status.write_text(json.dumps({"status": "failed", "cells": ["d"], "reason": "no data"}))
    view.look(always=True)
    assert "failed: task method d: no data" in capsys.readouterr().out


def test_a_view_waits_for_slurm_and_says_so_once(root, capsys, monkeypatch):
    monkeypatch.setattr(live, "console", Console(force_terminal=False, width=100))
    monkeypatch.setattr(live, "EVERY", 0.0)
    (root / "model/task/method/budget/b/status").unlink()
    watched(root).save(root / ".multirun/2026-01-01")
    answers = ["Unable to contact slurm controller"] * 3 + [None, "Unable to contact slurm controller", None]

    def squeue(folder):
        if refusal := answers.pop(0):
            raise UserError(f"SLURM's squeue failed ({refusal}): try again when it answers")
        return {"d": "12_0"} if answers else {}

    monkeypatch.setattr("adalora.sweep.status.queued", squeue)
    live.watch(root)
    assert [line.partition(";")[0] for line in capsys.readouterr().out.splitlines()] == [
        "retrying: SLURM's squeue failed (Unable to contact slurm controller): try again when it answers",
        "queued: task method d",
        "1 done, 1 queued, 1 failed, 1 missing of 4",
        "retrying: SLURM's squeue failed (Unable to contact slurm controller): try again when it answers",
        "2026-01-01 has ended: 1 done, 1 failed, 2 missing of 4",
    ]


def test_the_newest_sweep_is_found_and_a_damaged_one_passed_over(root):
    with pytest.raises(UserError, match="has no sweep to watch"):
        newest(root)
    for name in ("2026-01-01", "2026-01-02", "2026-01-03"):
        watched(root).save(root / ".multirun" / name)
    (root / ".multirun/2026-01-03/sweep.json").write_text("{}")
    folder, found = newest(root)
    assert folder.name == "2026-01-02"
    assert found == watched(root)
