"""Terminal output can be copied: nothing truncated, brackets kept, commands that run."""

import json
import time

import pytest
from rich.console import Console

from adalora.methods.discovery import METHODS
from adalora.progress import terminal, watch
from adalora.progress.terminal import following, started_as
from adalora.records.published import read_paper
from adalora.reporting.columns import title_of
from adalora.sweep.multirun import plan_table, run_table
from tests.reporting.forged import make


@pytest.fixture
def narrow(monkeypatch):
    """Replace the console by one of 60 columns."""
    console = Console(width=60, highlight=False, markup=False, record=True, force_terminal=True)
    for module in (terminal, watch):
        monkeypatch.setattr(module, "console", console)
    monkeypatch.setattr("adalora.run.run.console", console)
    return console


def test_at_60_columns_paths_and_commands_are_whole_and_brackets_stay(start, tiny_run, tmp_path, narrow):
    root = tmp_path / "a [v2] [bold]b[/bold]"
    run = [o for o in tiny_run if not o.startswith("run_root=")] + [f"run_root='{root}'", "task.title='SST [v2]'"]
    folder = start([*run, "method=lora", "training.max_steps=2"])
    lines = [line.rstrip() for line in narrow.export_text(clear=False).splitlines()]
    assert f"folder  {folder}" in lines
    assert any("SST [v2]" in line for line in lines)
    again = start([*run, "method=lora", "training.max_steps=2"])
    assert again == folder
    lines = [line.rstrip() for line in narrow.export_text().splitlines()]
    assert f"{folder} is done, showing its result (remove the folder to repeat the run)" in lines


def test_hints_keep_the_run_s_own_options():
    overrides = ["task=rte", "method=sora", "+method.x=1", "task.data_dir=/a b/[c]", "training.max_steps=5", "seed=2"]
    one, several = following(overrides, "sora")
    assert one == "python train.py task=rte 'task.data_dir=/a b/[c]' training.max_steps=5 seed=2 method=adalora"
    assert several.endswith("training.max_steps=5 method=sora,adalora seed=1,2,3")


@pytest.mark.parametrize("table", ["plans", "runs"])
def test_tables_fold_instead_of_cutting(table):
    plan = {"model": "deberta_v3_base", "task": "cnn_dailymail", "method": "adalora", "seed": 7,
            "setting": "rank 4 -> 2", "budget": {"name": "custom [x]", "params": 1, "deviation": 0.0},
            "parameters": {"kept": 1, "peak": 2, "head": 3}, "steps": 4}  # fmt: skip
    shown = plan_table([plan]) if table == "plans" else run_table([make(seed=7)])
    console = Console(width=60, markup=False, record=True)
    console.print(shown)
    text = console.export_text()
    assert "…" not in text
    assert " 7 " in text
    assert "seed" in "".join(text.split())


def test_the_bar_moves_every_step_and_shows_its_speed(tmp_path, narrow):
    class Plan:
        total_steps = 100

    seen = watch.Watch(Plan, tmp_path, None, True, lambda a, b: 0, None)
    seen.bar.start()
    seen.started(40, [], {})
    (task, _) = seen.bar.tasks
    assert (task.completed, task.speed) == (40, None)
    for step in (41, 42, 43):
        time.sleep(0.01)
        seen.advanced(step)
        assert task.completed == step
    assert 0 < task.speed < 200  # what came before the resumption doesn't count
    assert watch.Speed().render(task).plain.endswith("/s")
    seen.bar.stop()


@pytest.mark.parametrize(
    ("script", "program"),
    [
        ("train.py", "python train.py"),
        ("/my runs/train.py", "python '/my runs/train.py'"),
        ("-c", "python train.py"),
    ],
)
def test_commands_start_as_the_run_was_started(script, program):
    assert started_as(script) == program


def test_a_reconstruction_is_named_in_plan_record_and_tables(start, tiny_run, narrow):
    folder = start([*tiny_run, "method=lora_mini", "training.max_steps=2"])
    assert any(
        line.startswith(" method") and "lora_mini, from the abstract: " in line
        for line in narrow.export_text().splitlines()
    )
    assert json.loads((folder / "result.json").read_text())["method"]["basis"] == "from the abstract"
    named = {name for name, method in METHODS.items() if method.basis}
    assert named == {"prilora", "lora_mini"} == {name for name in METHODS if "abstract" in title_of(name, frozenset())}
    assert not named & {key[2] for table in read_paper().values() for key in table}, "no published number beside it"
