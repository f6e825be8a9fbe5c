"""Sweeps on a real SLURM, where one is up: `make test-slurm`. Nothing here depends on how it is set up."""

import json
import shutil
import subprocess
import time

import pytest

from tests.programs import Program, error_of, run

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(shutil.which("sinfo") is None, reason="no SLURM here (see docs/clusters.md)"),
]
SMALL = "gpus_per_node=null cpus_per_task=1 mem_gb=1 timeout_min=10"
TABLE = ("scripts.reproduce", "run", "glue", "--only", "task=sst2 method=lora,adalora budget=0.3M")


@pytest.fixture(autouse=True)
def alone():
    """No job of an earlier test is left over."""
    yield
    subprocess.run(["scancel", "--me"], check=True)


@pytest.fixture
def sweep(tiny_run, tmp_path):
    """`sweep("--detach")` starts a sweep of six cells whose runs are jobs."""

    def start(*args, root=tmp_path / "runs", seeds="1,2,3"):
        return Program(*TABLE, "--seeds", seeds, "--out", tmp_path / "tables", *tiny_run, f"run_root={root}",
                       *args, COLUMNS="200")  # fmt: skip

    return start


def numbers(root):
    """Every result's numbers and adapter, by method and seed."""
    return {
        (path.parts[-4], path.parts[-2][:5]): (
            json.loads(path.read_text())["last"],
            (path.parent / "metrics.jsonl").read_bytes(),
            (path.parent / "adapter/adapter.safetensors").read_bytes(),
        )
        for path in root.rglob("result.json")
    }


def jobs(state=None):
    """SLURM's jobs that wait or run."""
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i", *([f"--states={state}"] if state else [])]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def until(true, seconds=120):
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def listed(tiny_run, root):
    """The statuses in `make list`."""
    done = run("scripts.reproduce", "list", *TABLE[2:], "--seeds", "1,2,3", *tiny_run, f"run_root={root}",
               "--format", "table", COLUMNS="300")  # fmt: skip
    assert done.code == 0, done.stderr
    return [line.split()[0] for line in done.stdout.splitlines()[1:7]]


def test_preempted_and_timed_out_a_sweep_ends_in_a_serial_one_s_bits(sweep, tiny_run, tmp_path):
    """Six cells; one job is preempted in the middle, one told of its time limit, both by submitit's signal. Both are
    queued again, and go on from the checkpoint that the signal made them write."""
    long = ["training.max_steps=1500", "training.eval_steps=1500", "training.log_steps=250",
            "training.checkpoint_steps=100000"]  # fmt: skip
    process = sweep("--launcher", "slurm", "--slurm", SMALL, *long)
    told, signals = {}, []
    for _ in range(2):
        job = until(lambda: [job for job in jobs("RUNNING") if job not in told and started(tmp_path, job)])[0]
        before = len(checkpoints(tmp_path))
        # not waited for: the job is queued again before scancel is content, and it tries for a minute
        signals.append(subprocess.Popen(["scancel", "--signal=USR2", job], stderr=subprocess.DEVNULL))
        until(lambda before=before: len(checkpoints(tmp_path)) > before)
        told[job] = until(lambda job=job: job in jobs("PENDING"))
        assert "queued" in listed(tiny_run + long, tmp_path / "runs")
    assert len(told) == 2
    again = sweep("--launcher", "slurm", "--slurm", SMALL, *long, "--detach").ended(60)  # submits nothing twice
    assert again.code == 0, again.stderr
    assert "queued already" in again.stdout
    assert len(list((tmp_path / "runs/.multirun").glob("*/array-*"))) == 1
    for signal in signals:  # it would signal the job again, once that runs again
        signal.wait(120)
    while process.poll() is None:  # SLURM holds what was queued again back for two minutes
        for job in set(told) & set(jobs("PENDING")):
            subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], check=False, capture_output=True)
        time.sleep(3)
    done = process.ended(400)
    assert done.code == 0, done.stdout + done.stderr
    assert set(listed(tiny_run + long, tmp_path / "runs")) == {"done"}
    for job in told:
        (folder,) = (tmp_path / "runs/.multirun").glob(f"*/array-1/.submitit/{job}")
        output = "".join(path.read_text() for path in folder.glob("*_log.*"))
        assert "resuming from the checkpoint of step" in output
        assert "the same command resumes from there" in output
    serial = sweep(*long, root=tmp_path / "serial").ended(400)
    assert serial.code == 0, serial.stderr
    assert numbers(tmp_path / "runs") == numbers(tmp_path / "serial")
    assert len(numbers(tmp_path / "runs")) == 6


def checkpoints(tmp_path):
    """All checkpoints."""
    return list((tmp_path / "runs").rglob("checkpoint/step-*"))


def started(tmp_path, job):
    """Whether a job is training."""
    logs = (tmp_path / "runs/.multirun").glob(f"*/array-*/.submitit/{job}/*_log.out")
    texts = [log.read_text() for log in logs]
    return any(" 250/" in text and " 750/" not in text for text in texts)


def test_submitted_and_left_it_is_queued_until_the_jobs_end(sweep, tiny_run, tmp_path):
    submitted = sweep("--launcher", "slurm", "--slurm", SMALL + " array_parallelism=1", "--detach").ended(120)
    assert submitted.code == 0, submitted.stderr
    assert "make watch follows them, scancel" in submitted.stdout
    assert len(list((tmp_path / "runs/.multirun").glob("*/array-1/.submitit/[0-9]*_[0-9]"))) == 6
    assert listed(tiny_run, tmp_path / "runs").count("queued") >= 4
    subprocess.run(["scancel", "--me"], check=True)
    until(lambda: not jobs())
    until(lambda: "queued" not in listed(tiny_run, tmp_path / "runs"))


def test_what_slurm_refuses_is_said_in_one_line(sweep):
    line = error_of(sweep("--launcher", "slurm", "--slurm", SMALL + " partition=nowhere", seeds="1").ended(60))
    assert "SLURM accepted no job" in line
    assert "nowhere" in line or "partition" in line
