"""What README.md and docs/ promise: code that runs, options and files that exist, commands that compose."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

from adalora.config.schema import Config
from adalora.records.studies import read_studies
from adalora.sweep.cells import compose
from adalora.sweep.settings import TABLES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
TEXTS["results/pocket/README.md"] = (ROOT / "results/pocket/README.md").read_text()
OWN = [f"conf/task/{name}.yaml" for name in ("reviews", "minutes", "manuals")]
THEIRS = ("conf/local/default.yaml", "conf/local/slurm.yaml", *OWN)  # files that a user writes
SHELL = re.compile(r"^```sh\n(.*?)^```", flags=re.S | re.M)
COMMANDS = {  # every line of a shell block, with continuation lines joined, without its comment: the page that has it
    " ".join(re.sub(r"\s#.*", "", line).split()): page
    for page, text in TEXTS.items()
    for block in SHELL.findall(text)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
}
OFFLINE = {  # run as shown by tests/test_documented_commands.py
    "make demo",
    "make help",
    "make list WHAT=glue",
    "make watch",
    "make tables",
    "make report",
    "make compare A=adalora B=lora",
    "make report RUNS=results/pocket/runs",
    "make compare A=adalora B=lora RUNS=results/pocket/runs",
    "python train.py task=rte budget=0.3M method=adalora dry_run=true",
    "python train.py task=rte method=adalora dry_run=true",
    "python train.py task=igbo model=olmo2_7b method=adalora budget=rank8 dry_run=true",
    "python train.py model=deberta_minilm task=r8 budget=0.3M method=adalora",
    "python -m scripts.export RUN --to peft --out FOLDER",
    "python -m scripts.export RUN --to merged --out FOLDER",
    "python -m scripts.export RUN --to card --out FOLDER",
    'make reproduce-glue ONLY="task=rte,mrpc method=adalora,lora budget=0.3M" SEEDS=1,2 WORKERS=2 '
    'ARGS="model=deberta_minilm training.max_steps=100 data_root=FOLDER"',
}
ELSEWHERE = {"make test", "make check-device", ". .venv/bin/activate"}  # this run, test_check_device.py, every shell


def commands(start):
    """The commands that start so, as arguments."""
    for command, page in COMMANDS.items():
        if command.startswith(start):
            yield pytest.param(shlex.split(command), id=f"{page}: {command[:60]}")


def test_the_loops_for_one_s_own_model_run_and_prune(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own, trainer = re.findall(r"```python\n(.*?)```", TEXTS["docs/own_model.md"], flags=re.S)
    torch.manual_seed(0)
    names = {}
    exec(own, names)  # noqa: S102
    assert sum(names["method"].ranks().values()) == 4 * 14
    exec(own.partition("optimizer =")[0], names)  # noqa: S102
    exec(trainer, names)  # noqa: S102
    assert sum(names["method"].ranks().values()) == 4 * 14
    names["method"].merge(names["model"])
    assert not any("lora" in name for name, _ in names["model"].named_parameters())


def test_the_loop_in_wandb_md_gives_runs_short_names(tmp_path):
    (loop,) = re.findall(r"^```bash\n(.*?)^```", TEXTS["docs/wandb.md"], flags=re.S | re.M)
    for method in ("adalora", "lora"):
        logged = tmp_path / f"results/runs/deberta_minilm/rte/{method}/0.3M/seed2-0123456789/wandb/offline-run"
        (logged / "files").mkdir(parents=True)
        (logged / "run-abc.wandb").write_text(method)
        (logged.parent / "latest-run").symlink_to(logged.name)
    subprocess.run(["bash", "-euc", loop], cwd=tmp_path, check=True)
    for method in ("adalora", "lora"):
        name = f"{method}-0.3M-2"
        linked = tmp_path / f"results/leet/deberta_minilm-rte/run-00000000_000000-{name}"
        assert (linked / f"run-{name}.wandb").read_text() == method
        assert (linked / "files").is_dir()


def test_the_options_it_lists_are_those_of_conf():
    for group in ("method", "budget", "task", "model", "recipe"):
        (row,) = re.findall(rf"^\| `{group}` \| (.*) \|$", TEXTS["docs/options.md"], flags=re.M)
        listed = set(re.findall(r"`([\w.%]+)`", row))
        committed = {path.stem for path in (ROOT / "conf" / group).glob("[!_]*.yaml")}
        assert committed <= listed, group


@pytest.mark.parametrize("page", TEXTS)
def test_every_path_and_link_exists(page):
    for path in re.findall(r"`((?:adalora|conf|docs|tests|tasks|results/paper)/[\w/.]*)`", TEXTS[page]):
        assert (ROOT / path).exists() or path in THEIRS, path
    for link in re.findall(r"\]\(([^)#]+)", TEXTS[page]):
        assert link.startswith("https://") or ((ROOT / page).parent / link).exists(), link


def test_the_index_has_every_page():
    listed = set(re.findall(r"^\| \[[\w.]+\]\(([\w.]+)\)", TEXTS["docs/README.md"], flags=re.M))
    assert listed == {page.name for page in PAGES[1:]} - {"README.md"}


def test_every_command_is_run_or_listed_with_what_it_needs():
    section = TEXTS["docs/README.md"].partition("## What a command needs")[2]
    listed = re.findall(r"`([^`]+)`", section)
    assert listed
    for command in COMMANDS:
        assert command in OFFLINE | ELSEWHERE or command.startswith(tuple(listed)), command
    assert not OFFLINE - COMMANDS.keys()


@pytest.mark.parametrize("command", commands("python train.py"))
def test_every_training_command_composes(command):
    overrides = [text.split(",")[0] for text in command[2:] if not text.startswith("-")]
    if "--help" not in command:
        config = compose(overrides)
        assert isinstance(config, Config), config


@pytest.mark.parametrize("command", commands("make"))
def test_every_target_exists(command):
    targets = [text for text in command[1:] if "=" not in text]
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.M)
    known = {*phony.split(), *(f"reproduce-{name}" for name in (*TABLES, *read_studies()))}
    assert set(targets) <= known, targets


@pytest.mark.parametrize("command", commands("python -m scripts"))
def test_every_script_exists(command):
    place = ROOT / command[2].replace(".", "/")
    assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()


def test_make_refuses_a_variable_that_it_does_not_have():
    done = subprocess.run(["make", "-n", "demo", "method=lora"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "method is no variable of this Makefile: WHAT SEEDS" in done.stderr
    done = subprocess.run(["make", "-n", "reproduce-glue", "RUNS=there"], cwd=ROOT, capture_output=True, text=True)
    assert "run_root='there'" in done.stdout
