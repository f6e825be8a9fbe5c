"""Whole runs of a decoder on text: learning, resuming, checkpointing, and weights in bf16."""

import json

import pytest
import torch
from safetensors.torch import load_file

from adalora.export.trained import load_run
from adalora.records.result import read_result
from tests.methods.matrix import mostly_slow
from tests.run.test_run import read

METHODS = ["adalora", "lora", "increlora", "sora", "prilora", "melora", "lorta", "lora_mini", "mora", "full"]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("method", mostly_slow(["lora", *METHODS], "adalora"))
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
