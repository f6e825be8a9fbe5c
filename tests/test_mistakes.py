"""Mistakes on the command line, and the one line that a user sees."""

import errno
import json
import re
import resource
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from adalora.config.mistakes import PARTS, check_arguments
from adalora.config.other_tools import HERE
from adalora.errors import UserError
from adalora.sweep.cells import compose
from tests.programs import ROOT, error_of, run


def fails(*overrides, **how):
    """Run train.py, which must end with exit code 1 and exactly one line; returns it."""
    return error_of(run("train.py", *overrides, **how))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+training.lrr=3", "there is no option training.lrr: did you mean training.lr? conf/config.yaml explains all"),
        ("sede=3", "there is no option sede: did you mean seed? conf/config.yaml"),
        ("a b", "overrides are key=value"),
        ("~training", "training has no value: give one, or leave ~training out"),
        (
            "task.data_dir=${data_rot}/x",
            "/x can't be resolved (Interpolation key 'data_rot' not found): check the name",
        ),
        ("model.path=${oc.env:ADALORA_UNSET}", "can't be resolved ("),
        ("hydra/launcher=slrum", "hydra/launcher=slrum doesn't exist: allowed are slurm, "),
        ("task=rtee", "task=rtee doesn't exist: did you mean rte? python train.py --help lists all, and docs/own_data"),
        ("task=imdb", "task=imdb doesn't exist: python train.py --help lists all, and docs/own_data.md"),
        ("model=llama", "model=llama doesn't exist: did you mean llama32_1b or llama32_3b? python train.py --help"),
        ("method=adalroa", "method=adalroa doesn't exist: did you mean adalora? "),
        ("budget=0.4M", "budget=0.4M doesn't exist: did you mean 0."),
        ("training.batchsize=3", "there is no option training.batchsize: did you mean training.batch_size or "),
        ("trainig.lr=3", "there is no option trainig: did you mean training or "),
        ("method.alpa=3", "did you mean method.alpha? python train.py method=NAME --help"),
        ("task.colour=3", "there is no option task.colour: conf/task/ explains all"),
        ("epochs=3", "there is no option epochs: did you mean training.epochs?"),
        ("learning_rate=1e-3", "there is no option learning_rate: here it is training.lr"),
        ("training.warmup_ratio=0.1", "there is no option training.warmup_ratio: here it is training.warmup_steps, a"),
        ("lora_r=8", "there is no option lora_r: here it is method.rank (AdaLoRA: method.target_rank), or better a"),
        ("training.leraning_rate=1", "did you mean learning_rate? here it is training.lr"),
        (
            "model=someone/a-model",
            "on the hub give model.hub=someone/a-model and model=deberta or bart",
        ),
        ("model=./a-model", "model=./a-model doesn't exist: for a folder give model=decoder model.path=./a-model"),
        ("--method=lora", "--method=lora: options have no dashes, give method=VALUE"),
        ("--dry-run", "--dry-run: options have no dashes, give dry_run=VALUE"),
        ("--learning_rate", "options have no dashes, here it is training.lr"),
        ("dry_run", "'dry_run' can't be read: give dry_run=VALUE"),
        ("experiment=tiny,packaged", "add --multirun, or for all of them at once experiment=[tiny,packaged]"),
        ("method=vera", "method=vera doesn't exist: here it is method=peft method.type=VERA"),
        ("wandb=none", "wandb.NAME=VALUE, is needed, and tracking=none turns wandb off"),
        ("training.seed=3", "there is no option training.seed: did you mean seed?"),
        ("seed=1.0", "seed=1.0: a whole number is needed"),
        ("task.data_dir=", "task.data_dir= has no value: give one, or task.data_dir=null"),
        ("budget.params=500", "budget.params=500: budget=0.3M has a size of its own, give budget=custom budget.params"),
        ("resume=true", "there is no option resume: here it is not needed: the same command resumes"),
        ("training.batch_size=many", "training.batch_size=many: a whole number is needed"),
        ("training.lr=abc", "training.lr=abc: a number is needed"),
        ("training.max_steps=1.5", "training.max_steps=1.5: a whole number (or null) is needed"),
        ("task.rows.train=a", "task.rows.train=a: a whole number is needed"),
        ("fast=maybe", "fast=maybe: true or false is needed"),
        ("method.modules=query", "method.modules=query: a list such as [a,b] (or null) is needed"),
        ("training=3", "training=3: one of its options, training.NAME=VALUE, is needed"),
        ("budget=0.3", "budget=0.3 doesn't exist: did you mean 0.3M or "),
        ("budget=null", "budget=null doesn't exist: "),
        ("task.labels=null", "a regression, which has no "),
        ("model.hub=null", "model.hub, model.package and model.path are all null"),
        ("method.target_rank=nan", "method.target_rank=nan: must be a finite number"),
        ("training.lr=inf", "training.lr=inf: must be a finite number"),
        ("task.name=../x", "task.name=../x: it names a folder"),
        ("model.name=a/b", "model.name=a/b: it names a folder"),
        ("budget.name=..", "budget.name=..: it names a folder"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_anything_is_read(override, message):
    found = compose(["task=sst2", override])
    assert isinstance(found, str)
    assert message in found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"defaults: [_files, _self_]\n\ttitle: a\n", r"mine\.yaml, line 2: found character"),
        (b"title: Meine: Daten\n", r"mine\.yaml, line 1: mapping values"),
        ("title: Gefühle\n".encode("cp1252"), r"isn't UTF-8 .*: save it as UTF-8"),
        (
            b"defaults: [_files, _self_]\nheadlin: accuracy\n",
            r"there is no option task\.headlin: did you mean task\.headl",
        ),
    ],
)
def test_a_slip_in_one_s_own_file_is_named(tmp_path, content, message):
    (tmp_path / "task").mkdir()
    (tmp_path / "task/mine.yaml").write_bytes(content)
    found = compose([f"hydra.searchpath=[file://{tmp_path}]", "task=mine"])
    assert isinstance(found, str) and "\n" not in found
    assert re.search(message, found), found


def test_what_other_tools_call_an_option_is_none_of_ours_and_ours_exists(compose):
    """So each name is pointed to an option that can be given."""
    for name, ours in HERE.items():
        assert all(name not in options for options in PARTS.values()), name
        for key in re.findall(r"\b(?:training|method|task|model|wandb)\.(\w+)", ours):
            assert any(key in options for options in PARTS.values()), ours


def test_a_gpu_that_is_not_there(start, tiny_run, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="device=cuda, but torch sees no GPU"):
        start([*tiny_run, "device=cuda"])


def test_a_loss_that_is_not_finite(start, tiny_run, tmp_path):
    with pytest.raises(UserError, match=r"became NaN or infinite.*lower training\.lr"):
        start([*tiny_run, "method=lora", "training.lr=1e30", "training.checkpoint_steps=1000"])
    (status,) = (tmp_path / "runs").rglob("status")
    assert json.loads(status.read_text())["status"] == "failed"


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_480, 20_480))


@pytest.mark.slow
def test_a_file_size_limit_while_a_checkpoint_is_written(tiny_run, tmp_path):
    """A disk that is full, for real: files may not grow beyond 20 KiB, a checkpoint is larger."""
    args = [*tiny_run, "method=lora", "training.checkpoint_steps=5", "training.log_steps=100"]
    line = fails(*args, before=small_files)
    assert "can't be written" in line
    assert "ulimit -f" in line or "free some space" in line
    (status,) = (tmp_path / "runs").rglob("status")
    found = json.loads(status.read_text())
    assert found["status"] == "failed"
    assert not list((tmp_path / "runs").rglob(".writing-*"))
    assert run("train.py", *args).code == 0  # the same command, the limit gone


def test_a_run_root_that_cannot_be_made_is_one_line_in_a_multirun_too(tiny_run, tmp_path):
    (tmp_path / "file").write_text("")
    for multirun in ((), ("--multirun",)):
        line = fails(*multirun, *tiny_run, f"run_root={tmp_path}/file/x", "seed=1", "method=lora")
        assert "can't be written (Not a directory): choose a folder you can write to with run_root=FOLDER" in line


def lose_a_file():
    """A mistake of ours: a file that isn't there."""
    import adalora.run.run

    def read(config, overrides):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "x")

    adalora.run.run.run = read


def test_an_error_of_ours_keeps_its_traceback(tiny_run):
    done = run("train.py", *tiny_run, "method=lora", before=lose_a_file)
    assert done.code == 1
    assert "Traceback" in done.stderr
    assert "can't be written" not in done.stderr


@pytest.mark.parametrize(
    ("sweep", "override", "message"),
    [
        ([], "run_root=${oc.env:ADALORA_UNSET}/runs", "run_root=.*UNSET.* can't be resolved .*set the variable"),
        (["--multirun"], "run_root=${oc.env:ADALORA_UNSET}/runs", "can't be resolved .*UNSET.*set the variable"),
        (["--multirun"], "task.data_dir=${data_rot}/x", r"task.data_dir=\$\{data_rot\}/x can't be resolved"),
    ],
)
def test_what_can_t_be_resolved_is_one_line(tmp_path, sweep, override, message):
    done = run("train.py", *sweep, override, "dry_run=true", cwd=tmp_path)
    assert done.code == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert re.search(message, line)


PATHS = ["a=b", "a(b)", "[a]", "a#b", "a b", "ü b", "{a}", 'a"b', "a,b", "a\\b", "a'b", "a:b=c"]


@pytest.mark.parametrize("name", PATHS)
def test_a_path_with_special_characters_is_read_as_the_message_says(tmp_path, name):
    """What is printed works in a shell."""
    argument = f"task.data_dir=/x/{name}"
    try:
        check_arguments([argument])
    except UserError as error:
        assert "\n" not in str(error)
        (argument,) = shlex.split(str(error).rpartition("quotes: " if "quotes: " in str(error) else "one value ")[2])
        check_arguments([argument])
    (parsed,) = OverridesParser.create().parse_overrides([argument])
    assert parsed.value() == f"/x/{name}"


def test_several_values_need_multirun():
    with pytest.raises(UserError, match="seed=1,2' has several values: add --multirun"):
        check_arguments(["seed=1,2"])
    check_arguments(["--multirun", "seed=1,2"])


def test_the_next_commands_run_where_they_are_printed(tiny_run, tmp_path):
    """From another folder, with a folder of configs: the printed line gives the plan of the other method."""
    tasks, here = tmp_path / "own configs" / "task", tmp_path / "here"
    tasks.mkdir(parents=True)
    here.mkdir()
    (tasks / "own.yaml").write_text("defaults: [sst2, _self_]\nname: own\n")
    options = [option for option in tiny_run if not option.startswith("task=")]
    flags = ["--config-dir", str(tasks.parent)]
    done = run("train.py", *flags, "task=own", *options, "method=adalora", "training.max_steps=2", cwd=here)
    assert done.code == 0, done.stderr
    (line, _) = re.findall(r"^next +(.*)$", done.stdout, flags=re.M)
    program, script, *arguments = shlex.split(line)
    assert (program, Path(script)) == ("python", ROOT / "train.py")
    planned = run(Path(script).name, *arguments, "dry_run=true", cwd=here)
    assert planned.code == 0, planned.stderr
    assert "lora: rank 2" in planned.stdout
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert json.loads(result.read_text())["command"][1] == f"--config-dir={tasks.parent}"
