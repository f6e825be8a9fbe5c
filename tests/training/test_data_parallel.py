"""One run in several processes, each forked as torchrun would start it; torchrun itself is in the slow tests."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from adalora.training.checkpoint import load
from tests.methods.matrix import RUNS, run_of
from tests.programs import ROOT, Program, error_of, newest_step, run, together


def found(root):
    """A finished run: its result, log and tensors."""
    (result,) = root.rglob("result.json")
    log = [json.loads(line) for line in (result.parent / "metrics.jsonl").read_text().splitlines()]
    return json.loads(result.read_text()), log, load_file(result.parent / "adapter" / "adapter.safetensors")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["method=lora", "training.batch_size=19"], marks=pytest.mark.slow),
        ["method=adalora", "training.batch_size=38", "training.epochs=8", "training.micro_batches=2"],
        pytest.param(["method=increlora", "training.batch_size=19"], marks=pytest.mark.slow),
    ],
    ids=lambda options: options[0][7:],
)
def test_two_processes_give_one_s_numbers(tiny_run, still_model, tmp_path, options):
    """Dropout off, fp32. The last pass of an epoch has one row, so that the second process has none. Also what came
    after the model was wrapped: IncreLoRA's new ranks. Seen: 4e-6 of the largest entry of every
    tensor; here 1e-4."""
    args = [*tiny_run, *options, f"model.path={still_model}", "model.classifier_dropout=0", "method.dropout=0",
            "training.log_steps=1", "training.lr=0.005", "task.eval_rows=31", "training.eval_batch_size=7"]  # fmt: skip
    programs = [Program("train.py", *args, f"run_root={tmp_path}/1"),
                *together(2, "train.py", *args, f"run_root={tmp_path}/2")]  # fmt: skip
    for program in programs:
        done = program.ended()
        assert done.code == 0, done.stderr
    assert not done.stdout  # process 0 alone speaks
    (one, one_log, one_tensors), (two, two_log, two_tensors) = found(tmp_path / "1"), found(tmp_path / "2")
    assert (one["hardware"]["processes"], two["hardware"]["processes"]) == (1, 2)
    assert one["ranks"] == two["ranks"]
    for a, b in zip(one_log, two_log, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-7)
    assert one["last"] == pytest.approx(two["last"], rel=1e-4)
    assert one_tensors.keys() == two_tensors.keys()
    for name, tensor in one_tensors.items():
        assert (two_tensors[name] - tensor).abs().max() <= 1e-4 * tensor.abs().max(), name


@pytest.mark.parametrize("kind", ["choices", pytest.param("answers", marks=pytest.mark.slow)])
def test_two_processes_score_answers_as_one_does(causal_run, tmp_path, kind):
    words = ("good", "poor", "dull", "great")
    for split, count in {"train": 24, "validation": 7}.items():
        rows = [
            {"prompt": f"the film was {words[i % 3]}", "choices": words, "answer": words[i % 3]} for i in range(count)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    args = [*(option for option in causal_run if not option.startswith("task")), f"task={kind}", "method=adalora",
            f"task.data_dir={tmp_path}", "task.max_length=16", "training.max_steps=2",
            "training.batch_size=6", "training.eval_batch_size=3"]  # fmt: skip
    args += (
        ["task.prompt='{prompt}'"]
        if kind == "choices"
        else ["task.metrics=[bits_per_byte,exact_match]", "task.max_new_tokens=3"]
    )
    programs = [Program("train.py", *args, f"run_root={tmp_path}/1"),
                *together(2, "train.py", *args, f"run_root={tmp_path}/2")]  # fmt: skip
    for program in programs:
        done = program.ended()
        assert done.code == 0, done.stderr
    (one, _, _), (two, _, _) = found(tmp_path / "1"), found(tmp_path / "2")
    assert two["hardware"]["processes"] == 2
    assert one["last"] == pytest.approx(two["last"], rel=1e-4)
    rows = [[json.loads(line) for line in next((tmp_path / name).rglob("validation.jsonl")).read_text().splitlines()]
            for name in ("1", "2")]  # fmt: skip
    for a, b in zip(*rows, strict=True):
        assert b == {
            name: value if isinstance(value, str) else pytest.approx(value, rel=1e-3) for name, value in a.items()
        }


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, saves",
    [("adalora", "steps=10"), ("increlora", "minutes=0.005")],
)
def test_stopped_and_killed_it_ends_in_the_same_bits(tiny_run, tmp_path, method, saves):
    """With dropout: every process goes on with its own. Also what a stop, a death and another number say."""
    args = [*tiny_run, f"method={method}", "training.max_steps=60", f"training.checkpoint_{saves}",
            "training.log_steps=3", "method.dropout=0.1"]  # fmt: skip
    whole = together(2, "train.py", *args, f"run_root={tmp_path}/whole")
    assert [program.ended().code for program in whole] == [0, 0]

    first = together(2, "train.py", *args)
    wait_for(first, tmp_path / "runs", 10)
    first[1].send_signal(signal.SIGTERM)  # one is enough: both stop after the same step
    stopped = [program.ended() for program in first]
    assert [done.code for done in stopped] == [128 + signal.SIGTERM] * 2
    (line,) = [line for done in stopped for line in done.stderr.splitlines() if line]
    assert "the same command resumes" in line
    step = newest_step(tmp_path / "runs")
    (checkpoints,) = (tmp_path / "runs").rglob("checkpoint")
    tensors, state, _ = load(checkpoints)
    assert state.step == step
    assert not tensors["process/0/cpu"].equal(tensors["process/1/cpu"])  # other masks

    assert "was started with 2 processes and this is 1 process: use 2" in error_of(run("train.py", *args))

    second = together(2, "train.py", *args)
    wait_for(second, tmp_path / "runs", step + 10)
    second[1].send_signal(signal.SIGKILL)
    left, dead = [program.ended(timeout=60) for program in second]
    assert dead.code == -signal.SIGKILL
    assert "another process of this run ended: the same command resumes" in error_of(left)
    (status,) = (
        json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("status") if ".failed" not in str(path)
    )
    assert status["status"] == "running"  # nobody's fault

    third = together(2, "train.py", *args)
    assert [program.ended().code for program in third] == [0, 0]
    (one, one_log, one_tensors), (two, two_log, two_tensors) = found(tmp_path / "whole"), found(tmp_path / "runs")
    assert (one["last"], one_log) == (two["last"], two_log)
    assert one_tensors.keys() == two_tensors.keys()
    assert all(tensor.equal(two_tensors[name]) for name, tensor in one_tensors.items())


def wait_for(programs, root, step):
    """Until there is a checkpoint of `step` or later."""
    while programs[0].poll() is None and newest_step(root) < step:
        time.sleep(0.02)
    assert programs[0].poll() is None, programs[0].ended()


def test_what_several_processes_cannot_do_is_said_once(tiny_run, tmp_path):
    for args, expected in (
        (["--multirun", "method=lora", "seed=1,2"], "use one torchrun per run"),
        (["method=lora", f"model.path={tmp_path}/nowhere"], "nowhere"),
    ):
        done = [program.ended() for program in together(2, "train.py", *args[:1], *tiny_run, *args[1:])]
        assert [one.code for one in done] == [1, 1]
        (line,) = [line for one in done for line in one.stderr.splitlines() if line]
        assert expected in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--standalone", "--nproc-per-node=2"],
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no",
         "--dynamo_backend=no"],
    ],
    ids=["torchrun", "accelerate"],
)  # fmt: skip
def test_the_launchers_start_it_and_a_death_is_told_once(tiny_run, tmp_path, launcher):
    command = [sys.executable, "-m", *launcher, str(ROOT / "train.py"), *tiny_run, "method=adalora"]
    quick = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert quick.returncode == 0, quick.stderr
    assert found(tmp_path / "runs")[0]["hardware"]["processes"] == 2
    long = [*command, "training.max_steps=20000", f"run_root={tmp_path}/long", "training.checkpoint_steps=10"]
    process = subprocess.Popen(long, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while process.poll() is None and newest_step(tmp_path / "long") < 10:
        time.sleep(0.1)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert error.count("another process of this run ended: the same command resumes") == 1
    assert 'train.py", line' not in error  # the traceback is torchrun's own


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in RUNS if name not in ("adalora", "lora", "increlora")])
def test_every_method_runs_in_two_processes(tiny_run, tmp_path, method):
    for program in together(2, "train.py", *tiny_run, *run_of(method), "training.epochs=1"):
        done = program.ended()
        assert done.code == 0, done.stderr
