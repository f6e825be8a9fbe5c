"""train.py as a person runs it, in processes of its own."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def command(*overrides, cwd=ROOT, **environment):
    """Run train.py to its end: (exit code, output, errors)."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def one_line(error):
    """The message, if errors are exactly one line of ours and no traceback."""
    lines = [line for line in error.splitlines() if line]
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    return lines[0]


def without_torch(argument):
    """Run train.py where torch can't be imported."""
    code = (
        f"import runpy, sys; sys.modules['torch'] = None; sys.argv = ['train.py', '{argument}']; "
        "runpy.run_path('train.py', run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_what_a_user_chooses_from(flag):
    done = without_torch(flag)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("prilora", "squad_v2", "0.65%", "bart_minilm", "official_scripts", "--multirun"):
        assert name in done.stdout
    assert not re.search(r"(?<![\w%])_\w", done.stdout)  # shared parts


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("training.lr=-1", "training.lr=-1.0: must be positive and finite"),
        ("method.importance=size", "allowed are smoothed, sensitivity, magnitude"),
        ("model=bart_minilm", "serves summarization only"),
        ("budget=custom", "budget.params=N"),
    ],
)
def test_mistakes_in_options_are_told_without_torch(argument, message):
    done = without_torch(argument)
    assert done.returncode == 1
    assert message in one_line(done.stderr)


def test_the_headline_command_without_a_hub(tmp_path):
    cold = {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1"}
    code, _, error = command("task=rte", "budget=0.3M", "method=adalora", cwd=tmp_path, **cold)
    message = one_line(error)
    assert code == 1
    for part in ("microsoft/deberta-v3-base", "nyu-mll/glue", "model.path=", "task.data_dir=", "make demo"):
        assert part in message
    (status,) = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]  # no run, but a note of it
    assert json.loads(status.read_text())["status"] == "failed"
    assert "microsoft/deberta-v3-base" in json.loads(status.read_text())["reason"]


def test_the_plan_needs_neither_weights_nor_data_nor_network(tmp_path):
    cold = {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    code, output, error = command("task=rte", "method=adalora", "dry_run=true", cwd=tmp_path, **cold)
    assert (code, error) == (0, "")
    for part in ("72 adapted maps", "rank 4 -> 2", "663,840", "592,130", "3,900 steps", "Table 8", "TFLOP"):
        assert part in output
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_value_ends_in_one_line(tiny_run):
    code, _, error = command(*tiny_run, "precision=fp64")
    assert code == 1
    assert "allowed are fp32, bf16, fp16" in one_line(error)


def test_debug_shows_the_traceback(tiny_run):
    code, _, error = command(*tiny_run, "precision=fp64", "debug=true")
    assert code == 1
    assert "Traceback" in error


@pytest.mark.parametrize("method", ["adalora"])
def test_killed_at_random_moments_it_ends_in_the_same_bits(tiny_run, tmp_path, method):
    """SIGKILL, three times, at moments spread over a run that is long enough to be hit."""
    args = [*tiny_run, f"method={method}", "training.max_steps=400", "training.checkpoint_steps=10"]
    whole = tmp_path / "whole"
    assert command(*args, f"run_root={whole}")[0] == 0
    draw = random.Random(0)
    killed = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *args], cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        before = steps(tmp_path / "runs")
        while process.poll() is None and steps(tmp_path / "runs") <= before:
            time.sleep(0.01)
        time.sleep(draw.random())
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed >= 2
    assert command(*args)[0] == 0
    (first,), (second,) = (list(Path(root).rglob("result.json")) for root in (whole, tmp_path / "runs"))
    for name in ("adapter/adapter.safetensors", "metrics.jsonl"):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()
    assert json.loads(first.read_text())["last"] == json.loads(second.read_text())["last"]


def steps(root):
    """The newest checkpoint's step below a run root."""
    return max((int(path.name.removeprefix("step-")) for path in root.rglob("checkpoint/step-*")), default=0)


def test_ctrl_c_says_how_to_go_on(tiny_run, tmp_path):
    args = [*tiny_run, "method=lora", "training.max_steps=2000"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *args], cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and steps(tmp_path / "runs") == 0:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "the same command goes on" in error
    assert "Traceback" not in error


def test_two_processes_do_not_work_in_one_folder(tiny_run, tmp_path):
    args = [*tiny_run, "method=lora", "training.max_steps=5000"]
    first = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *args], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while first.poll() is None and steps(tmp_path / "runs") == 0:
            time.sleep(0.05)
        code, _, error = command(*args)
        assert code == 1
        assert "another process is working on" in one_line(error)
    finally:
        first.kill()
        first.wait()


def test_a_folder_that_cannot_be_written(tiny_run, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, error = command(*tiny_run, "method=lora", f"run_root={tmp_path}/file/runs")
    assert code == 1
    assert "can't be written" in one_line(error)
    assert "run_root=" in error


def test_a_wandb_run_is_left_offline_in_the_run_s_folder(tiny_run, tmp_path):
    args = [*tiny_run, "method=lora", "training.max_steps=3", "tracking=wandb"]
    code, _, error = command(*args, WANDB_API_KEY="", HOME=str(tmp_path))
    assert code == 0, error
    assert list((tmp_path / "runs").rglob("wandb/offline-run-*/*.wandb"))
