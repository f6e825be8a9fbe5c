"""A finished run is shown again without loading anything, as long as what it was made from is the same."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adalora.config import validate
from adalora.run.recall import recall
from tests.conftest import composed_tree


@pytest.fixture
def finished(start, tiny_run):
    """A finished run's folder, its options, and what recalls it with further ones."""
    options = [*tiny_run, "method=lora", "training.max_steps=2"]
    folder = start(options)

    def again(*more):
        return recall(validate(composed_tree([*options, *more]), [*options, *more]))

    return folder, again


def test_it_is_the_same_result(finished, capsys):
    folder, again = finished
    found = again("tracking=none", "debug=true")
    assert found["key"] == json.loads((folder / "result.json").read_text())["key"]
    assert f"folder  {folder}" in capsys.readouterr().out.replace("\n", "")


def test_other_options_are_another_run(finished):
    _, again = finished
    for option in ("seed=2", "method.alpha=3", "training.max_steps=3", "fast=false", "run_root=elsewhere"):
        assert again(option) is None, option


@pytest.mark.parametrize(
    "change", ["data", "new data file", "tokenizer", "result", "adapter", "log", "status", "folder"]
)
def test_what_has_changed_is_looked_at(finished, tiny_run, change):
    folder, again = finished
    place = {key: Path(value) for key, _, value in (option.partition("=") for option in tiny_run)}
    data, model = next(place["task.data_dir"].glob("train.*")), place["model.path"]
    before = {path: path.stat() for path in (data, model / "tokenizer.json")}
    if change in ("data", "tokenizer"):
        os.utime(data if change == "data" else model / "tokenizer.json", (1, 1))
    elif change == "new data file":
        (data.parent / "validation.csv").write_text("")
    elif change == "folder":
        shutil.rmtree(folder)
    else:
        name = {"adapter": "adapter/adapter.safetensors", "result": "result.json", "log": "metrics.jsonl"}
        (folder / name.get(change, "status")).write_text("{}")
    try:
        assert again() is None
    finally:
        for path, stat in before.items():
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        (data.parent / "validation.csv").unlink(missing_ok=True)


def test_what_changed_while_it_trained_is_not_noted(start, tiny_run, tmp_path, monkeypatch):
    folder = tmp_path / "own"
    shutil.copytree(next(option.partition("=")[2] for option in tiny_run if "data_dir" in option), folder)
    options = [*tiny_run, f"task.data_dir={folder}", "method=lora", "training.max_steps=2"]
    from adalora.run import run as module

    execute = module.execute
    monkeypatch.setattr(module, "execute", lambda *given: (folder / "train.parquet").touch() or execute(*given))
    start(options)
    assert recall(validate(composed_tree(options), options)) is None


def test_a_file_that_a_pattern_of_folders_fits_is_looked_at(start, causal_run, texts, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        shutil.copy(next(texts.glob("train.*")), tmp_path / "mine" / name / "x.csv")
    options = [*causal_run, f"task.train_file={tmp_path}/mine/*/*.csv", "method=lora", "training.max_steps=2"]
    start(options)
    config = validate(composed_tree(options), options)
    assert recall(config) is not None
    (tmp_path / "mine/c").mkdir()
    assert recall(config) is None


def test_a_cache_that_can_t_be_written_costs_nothing_else(start, tiny_run, tmp_path):
    options = [*tiny_run, "method=lora", "training.max_steps=2"]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/finished").write_text("not a folder")
    folder = start(options)
    assert recall(validate(composed_tree(options), options)) is None
    assert json.loads((folder / "status").read_text())["status"] == "done"


def test_a_process_of_several_looks_for_itself(finished, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert finished[1]() is None


def test_neither_a_dry_run_nor_a_recall_imports_torch():
    heavy = (
        "torch", "transformers", "datasets", "evaluate", "sklearn", "pandas", "wandb", "peft", "matplotlib", "pyarrow",
    )  # fmt: skip
    code = (
        "import sys; sys.argv = ['train.py', 'task=rte', 'method=adalora', 'dry_run=true', 'device=cpu',"
        " 'tracking=none']; import adalora.run.recall; from adalora.cli import command; command();"
        f"print(*(name for name in {heavy} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
