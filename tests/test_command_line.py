"""train.py as a user runs it, in separate processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from adalora.config.mistakes import check_arguments
from adalora.errors import UserError
from adalora.files.lock import locked
from tests.programs import ROOT, Done, Program, error_of, newest_step, no_hub, run


def interpreted(*command, cwd=ROOT, **environment):
    """Run a command of a new Python interpreter to its end."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )
    return Done(done.returncode, done.stdout, done.stderr)


def without_torch(*arguments):
    """Run train.py with each argument in turn, where torch can't be imported; stdout has each exit code."""
    code = (
        "import runpy, sys; sys.modules['torch'] = None\n"
        f"for argument in {arguments!r}:\n    sys.argv = ['train.py', argument]\n"
        "    try: runpy.run_path('train.py', run_name='__main__')\n    except SystemExit as end: print(end.code)\n"
    )
    return interpreted("-c", code)


def test_help_shows_what_a_user_chooses_from():
    done = without_torch("--help", "-h")
    one, other, rest = done.stdout.split("None\n")
    assert (one, rest, done.stderr) == (other, "", "")
    for name in ("prilora", "squad_v2", "0.65%", "bart_minilm", "official_scripts", "--multirun"):
        assert name in one
    assert not re.search(r"(?<![\w%])_\w", one)  # shared parts


MISTAKES = {
    "training.lr=-1": "training.lr=-1: must be positive and finite",
    "method.importance=size": "allowed are smoothed, sensitivity, magnitude",
    "model=bart_minilm": "choose a model of type deberta-v2",
    "budget=custom": "budget.params=N",
    "task.lable=x": "there is no option task.lable: did you mean task.label or task.labels or ",
}


def test_mistakes_in_options_are_told_without_torch():
    done = without_torch(*MISTAKES)
    assert done.stdout.split() == ["1"] * len(MISTAKES)
    for line, message in zip(done.stderr.splitlines(), MISTAKES.values(), strict=True):
        assert line.startswith("error: ") and message in line


@pytest.mark.parametrize("flags", [("--multirun", "--cfg", "hydra"), ("-m", "-c=job"), ("--info", "-m")])
def test_a_configuration_is_shown_of_a_single_run(flags):
    with pytest.raises(UserError, match="shows a single run's configuration: leave --multirun out"):
        check_arguments(flags)


def test_hydras_own_configuration_can_be_shown():
    done = run("train.py", "--cfg", "hydra")
    assert (done.code, done.stderr) == (0, "")
    assert "sweep:" in done.stdout


def test_the_headline_command_without_a_hub(tmp_path):
    message = error_of(run("train.py", "task=rte", "budget=0.3M", "method=adalora", cwd=tmp_path, before=no_hub))
    for part in ("microsoft/deberta-v3-base", "nyu-mll/glue", "model.path=", "task.data_dir=", "make demo"):
        assert part in message
    (status,) = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]  # no run, but a note of it
    assert json.loads(status.read_text())["status"] == "failed"
    assert "microsoft/deberta-v3-base" in json.loads(status.read_text())["reason"]


@pytest.mark.slow
def test_the_plan_needs_neither_weights_nor_data_nor_network(tmp_path):
    cold = {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    command = [ROOT / "train.py", "task=rte", "method=adalora", "dry_run=true"]
    code, output, error = interpreted(*command, cwd=tmp_path, **cold)
    assert (code, error) == (0, "")
    for part in ("72 adapted modules", "rank 4 -> 2", "663,840", "592,130", "3,900 steps", "Table 8", "GFLOP a step"):
        assert part in output
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tiny_run):
    done = run("train.py", *tiny_run, "precision=fp64", "debug=true")
    assert done.code == 1
    assert "Traceback" in done.stderr


def test_ctrl_c_says_how_to_go_on(tiny_run, tmp_path):
    args = [*tiny_run, "method=lora", "training.max_steps=2000", "training.checkpoint_steps=50"]
    process = Program("train.py", *args)
    while process.poll() is None and newest_step(tmp_path / "runs") == 0:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    done = process.ended(timeout=60)
    assert done.code == 128 + signal.SIGINT
    assert "the same command resumes" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_processes_do_not_work_in_one_folder(tiny_run, prepared):
    args = [*tiny_run, "method=lora"]
    with locked(prepared(args).folder.path):
        done = run("train.py", *args)
    assert done.code == 75 and done.stderr.count("\n") == 1 and "is working on" in done.stderr


@pytest.mark.slow
def test_a_terminal_without_the_title_s_characters(tmp_path):
    options = ["task=rte", "task.title='Films – é'", "dry_run=true"]
    code, output, error = interpreted(ROOT / "train.py", *options, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (code, error) == (0, "")
    assert "Films ? ?" in output


def test_a_script_prints_what_a_terminal_can_show_and_stops_when_nobody_reads():
    code = "import sys; from scripts.options import exit_code; sys.exit(exit_code(lambda: print('Films – é')))"
    assert interpreted("-c", code, PYTHONIOENCODING="ascii") == (0, "Films ? ?\n", "")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    script = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    script.stdout.close()
    assert (script.stderr.read(), script.wait()) == (b"", 0)


@pytest.mark.slow
def test_workers_run_the_jobs_of_a_multirun_beside_each_other(tiny_run):
    short = ("method=lora", "training.max_steps=2", "seed=1,2", "hydra/launcher=workers")
    code, output, error = interpreted(ROOT / "train.py", "--multirun", *tiny_run, *short, COLUMNS="200")
    assert code == 0, error
    assert output[output.rindex("adapter kept") :].count(" sst2 ") == 2
