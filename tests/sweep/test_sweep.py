"""Sweeps of real runs on a tiny model, whose workers die in the middle."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from adalora.files.lock import held, locked
from adalora.run.folder import status_or_empty
from adalora.sweep.local import run_cells
from adalora.sweep.worker import gpu, threads
from tests.programs import Program, error_of, newest_step, no_hub, run


@pytest.fixture
def sweep(tiny_run, tmp_path):
    """`sweep("--seeds", "1")` starts `scripts.reproduce run` over SST-2's LoRA and AdaLoRA cells at 0.3M."""
    started = []

    def start(*args, seeds="1,2", **environment):
        process = Program(
            "scripts.reproduce", "run", "glue", "--seeds", seeds,
            "--only", "task=sst2 method=lora,adalora budget=0.3M", "--out", "~/tables",
            *tiny_run, *args, COLUMNS="200", HOME=str(tmp_path), **environment,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def ended(process):
    """Exit code and output of a sweep."""
    done = process.ended()
    return done.code, done.stdout + done.stderr


def at_work(root, *parts):
    """The run folders that a living process holds, with its pid; those whose path has all of `parts`."""
    return {
        path.parent: status_or_empty(path.parent).pid
        for path in root.glob("[!.]*/*/*/*/*/status")
        if held(path.parent) and all(part in path.parts for part in parts)
    }


def results(root):
    """Every result's numbers and adapter, by method and seed."""
    found = {}
    for path in root.rglob("result.json"):
        run = json.loads(path.read_text())
        numbers = (run["last"], run["best"], (path.parent / "adapter/adapter.safetensors").read_bytes())
        assert (run["method"]["name"], run["seed"]) not in found, "run twice"
        found[run["method"]["name"], run["seed"]] = numbers
    return found


LONG = ("training.max_steps=600", "training.checkpoint_steps=20", "training.eval_steps=300")


@pytest.mark.slow
def test_killed_processes_are_started_again_and_all_ends_as_alone(sweep, tmp_path):
    """Twelve cells, three of their processes killed, then the sweep itself; the bits are those of single runs with the
    same threads."""
    runs, serial, seeds = tmp_path / "runs", tmp_path / "serial", "1,2,3,4,5,6"
    process, killed = sweep("--workers", "2", *LONG, seeds=seeds), {}
    while process.poll() is None and len(killed) < 3:
        for folder, pid in at_work(runs).items():
            if folder not in killed and newest_step(folder) > 0 and len(killed) < 3:
                killed[folder] = pid
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    while process.poll() is None and len(list(runs.rglob("result.json"))) < 6:
        time.sleep(0.05)
    process.kill()  # and everything at once
    process.ended()
    code, output = ended(sweep("--workers", "2", *LONG, seeds=seeds))
    assert code == 0, output
    assert "0 of 12 cells failed" in output
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("result.json")}
    code, output = ended(sweep("--workers", "2", *LONG, seeds=seeds))
    assert code == 0
    assert "12 cells, 12 done" in output
    assert before == {path: path.stat().st_mtime_ns for path in runs.rglob("result.json")}
    assert "subset" in (tmp_path / "tables/packaged.md").read_text()

    threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
    code, output = ended(sweep(*LONG, f"run_root={serial}", seeds=seeds, OMP_NUM_THREADS=threads))
    assert code == 0, output
    assert results(runs) == results(serial)
    assert len(results(runs)) == 12


@pytest.mark.slow
def test_a_cell_whose_process_dies_twice_has_failed_and_the_rest_is_done(sweep, tmp_path):
    runs = tmp_path / "runs"
    process = sweep("--workers", "2", *LONG, seeds="1")
    killed = set()
    while process.poll() is None:
        for pid in at_work(runs, "adalora").values():
            if pid not in killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    code, output = ended(process)
    assert code == 1
    assert len(killed) == 2, output
    assert "its process died 2 times" in output
    assert list(results(runs)) == [("lora", 1)]
    listed = run("scripts.reproduce", "watch", "--runs", runs)
    assert "1 done, 1 failed of 2" in listed.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_sweep_leaves_checkpoints_and_no_process(sweep, tmp_path, number):
    """The runs get one SIGTERM from the sweep, and save."""
    runs = tmp_path / "runs"
    process = sweep("--workers", "2", "training.max_steps=20000", "training.checkpoint_steps=20", seeds="1")
    while process.poll() is None and sum(newest_step(folder) > 0 for folder in at_work(runs)) < 2:
        time.sleep(0.05)
    pids = list(at_work(runs).values())
    os.kill(process.pid, number)
    done = process.ended(15)
    assert done.code == 128 + number and "the same command resumes" in done.stderr
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert {status_or_empty(path.parent).status for path in runs.glob("[!.]*/*/*/*/*/status")} == {"interrupted"}
    (log,) = runs.glob(".multirun/*/0001-*.txt")
    assert "the same command resumes from there" in log.read_text()


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_cells(sweep, tmp_path):
    both = [sweep(*LONG) for _ in range(2)]
    done = [ended(process) for process in both]
    assert 0 in {code for code, _ in done}
    assert len(results(tmp_path / "runs")) == 4  # none ran twice


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_runs_of_a_killed_sweep_save_and_stop(sweep, tmp_path, workers):
    runs = tmp_path / "runs"
    process = sweep("--workers", workers, "training.max_steps=20000", "training.checkpoint_steps=20", seeds="1")
    while process.poll() is None and newest_step(runs) == 0:
        time.sleep(0.05)
    assert at_work(runs)
    os.kill(process.pid, signal.SIGKILL)  # the sweep alone
    deadline = time.monotonic() + 60
    while at_work(runs) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not at_work(runs)
    assert {status_or_empty(path.parent).status for path in runs.glob("[!.]*/*/*/*/*/status")} == {"interrupted"}


@pytest.mark.slow
def test_a_cell_that_somebody_else_is_at_work_on_is_left_and_one_that_fails_does_not_stop_the_rest(sweep, tmp_path):
    short = ("training.max_steps=2", "method.alpha=2")
    runs = tmp_path / "runs"
    code, output = ended(sweep(*short, seeds="1"))
    assert code == 0, output
    (folder,) = runs.glob("*/*/lora/*/*")
    (folder / "status").write_text(status_or_empty(folder).model_copy(update={"status": "running"}).model_dump_json())
    (other,) = runs.glob("*/*/adalora/*/*")
    (other / "status").write_text(status_or_empty(other).model_copy(update={"status": "failed"}).model_dump_json())
    (other / "checkpoint/step-00000001").mkdir(parents=True)  # damaged, and there is no other
    with locked(folder):
        code, output = ended(sweep(*short, seeds="1,2"))
    assert code == 1
    assert output.count("busy: python train.py") == 1
    assert output.count("failed: python train.py") == 1
    assert "are damaged" in output
    assert sorted(results(runs)) == [("adalora", 1), ("adalora", 2), ("lora", 1), ("lora", 2)]


def test_missing_data_end_a_sweep_before_it_starts_and_are_named_at_once(tmp_path):
    message = error_of(
        run("scripts.reproduce", "run", "all", "--only", "task=rte,squad_v2 method=full", "--seeds", "1",
            f"run_root={tmp_path}/runs", "--out", tmp_path / "tables", cwd=tmp_path, before=no_hub)
    )  # fmt: skip
    for part in ("microsoft/deberta-v3-base", "nyu-mll/glue", "rajpurkar/squad_v2", "data_root=FOLDER"):
        assert message.count(part) == 1
    assert not (tmp_path / "runs").exists()


def test_two_multiruns_of_the_same_moment_have_folders_of_their_own(tiny_run, tmp_path):
    both = [Program("train.py", "--multirun", *tiny_run, "method=lora", "dry_run=true") for _ in range(2)]
    assert [process.ended().code for process in both] == [0, 0]
    sweeps = list((tmp_path / "runs/.multirun").iterdir())
    assert [len(list(folder.rglob("outcome.json"))) for folder in sweeps] == [1, 1]


def test_several_runs_share_cores_and_take_gpus_in_turn(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    assert [threads(workers)["OMP_NUM_THREADS"] for workers in (1, 2, 3, 16, -1)] == ["8", "4", "2", "1", "1"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert [gpu(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["4", "5", "4"]


def test_a_run_that_is_stopped_while_it_starts_is_not_started_again(tmp_path, monkeypatch):
    started = []

    def start(cell, slot, workers, log):
        log.write_text("")
        started.append(subprocess.Popen(["sh", "-c", "kill -TERM $$"]))
        return started[-1]

    monkeypatch.setattr("adalora.sweep.local.start", start)
    outcomes = run_cells([SimpleNamespace(id="c", overrides=())], 1, tmp_path, lambda: None)
    assert (outcomes["c"].kind, len(started)) == ("stopped", 1)
