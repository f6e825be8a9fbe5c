"""The benchmarks run: their figures are for people to read."""

import json

import pytest

from scripts.bench.growth import allocation
from scripts.bench.page import read_all, rendered
from scripts.bench.side import Side
from tests.programs import run


def test_the_allocation_takes_as_many_operations_whatever_the_modules_and_ranks():
    costs = [allocation(modules, rank, repeats=1) for modules, rank in ((2, 2), (16, 2), (2, 8))]
    assert all(cost["regulariser"]["operations"] == costs[0]["regulariser"]["operations"] > 0 for cost in costs)
    assert all(cost["allocation"]["operations"] == costs[0]["allocation"]["operations"] > 0 for cost in costs)


def test_a_step_of_adalora_takes_at_most_a_tenth_more_operations_than_lora_s():
    sizes = {"hidden_size": 48, "num_attention_heads": 12, "intermediate_size": 96, "vocab_size": 100}
    options = [*(f"model.config.{name}={size}" for name, size in sizes.items()), "budget=custom", "budget.rank=2"]
    counts = {}
    for method in ("adalora", "lora"):
        side = Side({"side": "ours", "method": method, "options": options})
        side.answer({"do": "step", "lengths": [8, 5]})  # with all that is done once
        counts[method] = side.answer({"do": "operations", "lengths": [8, 5]})["operations"]
    assert counts["lora"] < counts["adalora"] <= 1.1 * counts["lora"]


@pytest.mark.slow
def test_the_sides_of_a_training_step_take_turns(tmp_path):
    done = run("scripts.bench", "step", "--rounds", "2", "--rows", "1", "--out", str(tmp_path))
    assert done.code == 0, done.stderr
    figures = json.loads((tmp_path / "step-bf16.json").read_text())
    sizes = {name: [step["tokens"] for step in side["steps"]] for name, side in figures["own"].items()}
    assert len({tuple(size) for size in sizes.values()}) == 1, "every side gets the same batches"
    assert figures["own"]["AdaLoRA"]["trained"] == figures["peers"]["PEFT AdaLoRA"]["trained"]
    assert figures["released"]["steps"][0]["padded"] == 320


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "title"),
    [
        ("startup", "From command to first step"),
        ("evaluation", "Evaluation"),
        ("summarization", "Summarisation"),
        ("growth", "What the allocation costs"),
        ("checkpointing", "Activation checkpointing"),
    ],
)
def test_a_part_fills_its_section_of_the_page(tmp_path, part, title):
    done = run("scripts.bench", part, "--rounds", "1", "--out", str(tmp_path / "here"))
    assert done.code == 0, done.stderr
    figures = read_all(tmp_path)
    assert f"## {title}: {figures['here'][part]['machine']['name']}" in rendered(figures)
