"""Whole runs of a decoder on text: learning, resuming, checkpointing, and weights in bf16."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file

from adalora.records.result import read_result
from adalora.run.trained import load_run
from tests.methods.matrix import mostly_slow
from tests.run.test_run import read

WORDS = ("good", "poor", "dull", "great")
METHODS = ["adalora", "lora", "increlora", "sora", "prilora", "melora", "lorta", "lora_mini", "mora", "full"]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("method", mostly_slow(METHODS, "adalora"))
def test_resumed_runs_end_in_the_same_bits(start, killed, causal_run, tmp_path, method, bf16):
    args = [
        *causal_run,
        f"method={method}",
        *(["budget.rank=null", "budget.params=1256"] if method == "mora" else []),
        "training.checkpoint_steps=5",
        "training.log_steps=3",
        "training.eval_steps=7",
        *(["precision=bf16", "model.dtype=bf16"] if bf16 else []),
    ]
    whole = start([*args, f"run_root={tmp_path}/whole"])
    killed(args, 6, 12)
    assert read(start(args)) == read(whole)
    stored = load_file(whole / "adapter" / "adapter.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}


def test_a_decoder_learns_and_activation_checkpointing_changes_no_number(start, causal_run, tmp_path):
    args = [*causal_run, "method=lora", "training.epochs=10", "training.eval_steps=5"]
    found = []
    for on in ("false", "true"):
        run = start([*args, f"run_root={tmp_path}/{on}", f"training.activation_checkpointing={on}"])
        metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found.append([line["eval/bits_per_byte"] for line in metrics if "eval/bits_per_byte" in line])
    assert found[0] == found[1]
    assert found[0][-1] < found[0][0]
    assert read_result(run).model["title"].endswith("(llama)")
    assert load_run(run).model.config.model_type == "llama"


@pytest.fixture
def questions(tmp_path):
    """Questions whose answer is a word of the prompt, for both kinds."""
    folder, draw = tmp_path / "questions", random.Random(0)
    folder.mkdir()
    for split, count in {"train": 96, "validation": 12}.items():
        rows = []
        for _ in range(count):
            word, other = draw.sample(WORDS, 2)
            place = draw.randrange(2)
            choices = [word, other] if place == 0 else [other, word]
            rows.append({"prompt": f"the film was {word}", "choices": choices, "place": place, "answer": word})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


KINDS = {
    "choices": ["task=choices", "task.prompt='{prompt}'", "task.answer=place"],
    "answers": ["task=answers", "task.metrics=[exact_match,bits_per_byte]", "task.max_new_tokens=2"],
    "all": ["task=answers", "task.loss_on=all"],
}


@pytest.mark.parametrize("kind", mostly_slow(KINDS, "choices", "answers"))
def test_answers_are_learned_resumed_to_the_bit_and_saved_without_texts_in_the_record(
    start, killed, causal_run, questions, tmp_path, kind
):
    args = [
        *(option for option in causal_run if not option.startswith("task")), *KINDS[kind],
        f"task.data_dir={questions}", "task.max_length=16", "method=adalora", "training.epochs=5",
        "training.checkpoint_steps=5", "training.eval_steps=7", "training.log_steps=3",
    ]  # fmt: skip
    whole = start([*args, f"run_root={tmp_path}/whole", "tracking=wandb", "wandb.samples=4"])
    killed(args, 6, 12)
    assert read(start(args)) == read(whole)
    metrics = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    losses = [line["eval/loss"] for line in metrics if "eval/loss" in line]
    assert losses[-1] < losses[0]
    result = read_result(whole)
    assert load_run(whole).config.task.name == result.task["name"]
    (lines,) = (whole / "predictions").iterdir()
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(rows) == 12
    recorded = (whole / "result.json").read_text()
    assert not any(f"film was {word}" in recorded for word in WORDS)
    logged = b"".join(file.read_bytes() for file in (whole / "wandb").rglob("*") if file.is_file())
    assert b"bits_per_byte" in logged or b"accuracy" in logged
    assert b"film was" not in logged
    if kind == "choices":
        assert result.last["accuracy"] == sum(row["accuracy"] for row in rows) / 12
