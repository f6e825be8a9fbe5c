"""The benchmarks run: their figures are for people to read."""

import json

import pytest

from adalora.places import ROOT
from scripts.bench.page import PAGE, read_all, rendered
from tests.programs import run


def test_the_page_says_what_the_figures_say():
    assert PAGE.read_text() == rendered(read_all(ROOT / "results" / "bench"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("bench_memory.py", ["--methods", "lora,lorta", "--steps", "1", "--batch", "1", "--length", "8"]),
        ("bench_squad.py", ["--questions", "40", "--reference", "5"]),
    ],
)
def test_a_benchmark_runs(script, options):
    done = run(f"scripts/{script}", *options)
    assert done.code == 0, done.stderr
    assert "ratio" in done.stdout or "the same on these" in done.stdout


@pytest.mark.slow
def test_the_sides_of_a_training_step_take_turns(tmp_path):
    done = run("scripts/bench/__main__.py", "step", "--rounds", "2", "--rows", "1", "--out", str(tmp_path))
    assert done.code == 0, done.stderr
    figures = json.loads((tmp_path / "step-bf16.json").read_text())
    sizes = {name: [step["tokens"] for step in side["steps"]] for name, side in figures["own"].items()}
    assert len({tuple(size) for size in sizes.values()}) == 1, "every side gets the same batches"
    assert figures["own"]["AdaLoRA"]["trained"] == figures["peers"]["PEFT AdaLoRA"]["trained"]
