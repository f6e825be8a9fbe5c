"""Published set-ups on decoders: what they train, by plans without weights."""

import csv
import math
from pathlib import Path

import pytest

from adalora.planning.plan import make_plan

TABLE = Path(__file__).parents[2] / "results/paper/family/peft_method_comparison.csv"


@pytest.mark.parametrize("method", ["LoRA", "AdaLoRA"])
def test_peft_s_comparison_trains_the_published_number_of_parameters(compose, method):
    with TABLE.open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if row["table"] == "PEFT-MetaMathQA" and row["metric"] == "acc_test"
        ]
    (printed,) = [r["params"] for r in rows if (r["method"], r["budget_label"]) == (method, "llama-3.2-3B-rank32")]
    options = compose(
        "recipe=peft_comparison", "task=metamath", "model=llama32_3b", "budget=9.2M", f"method={method.lower()}"
    )
    plan = make_plan(options, {"train": 395_000, "validation": 50, "test": 1319})
    assert plan.solution.counts.peak == int(printed)
    assert (plan.total_steps, plan.config.training.warmup_steps, plan.config.task.loss_on) == (5000, 500, "all")
    scale = plan.config.method.alpha / (
        plan.config.method.init_rank if method == "AdaLoRA" else plan.config.method.rank
    )
    assert scale == {"LoRA": 2, "AdaLoRA": 0.125}[method]
    if method == "LoRA":
        assert plan.config.method.init == "kaiming"
    else:
        assert plan.config.method.orthogonality == 0  # what is configured never acts
    assert plan.config.task.max_new_tokens == 300
    assert not plan.departures


def test_the_published_olmo_adapters_are_never_pruned_and_train_head_and_embeddings(compose):
    options = compose("recipe=ssu", "task=text", "model=olmo2_7b", "budget=rank12", "method=adalora")
    plan = make_plan(options, {"train": 400_000, "validation": 100})
    counts, modules = plan.solution.counts, 7 * 32
    assert counts.peak - 12 * modules == 29_982_720  # without the lambdas
    assert counts.kept == counts.peak
    assert counts.modules == 822_083_584
    assert plan.config.training.schedule == "cosine"
    assert plan.config.training.warmup_steps == math.ceil(0.05 * plan.total_steps)  # as transformers counts
    assert not plan.departures
