"""Where a value of a run comes from, as its record says."""

import pytest

from adalora.planning.origins import origins
from adalora.planning.plan import make_plan


@pytest.fixture
def found(compose):
    """`found("task=rte", ...)`: the options of a run of these overrides, with their origins."""

    def go(*overrides):
        config = compose(*overrides)
        plan = make_plan(config, config.task.rows)
        return origins(config, plan.config, overrides, sum(config.task.rows.values()) - plan.rows)

    return go


RTE, SQUAD = "task=rte", "task=squad_v1 budget=0.3M"


@pytest.mark.parametrize(
    ("line", "key", "value", "origin", "reference"),
    [
        (RTE, "training.lr", 1.2e-3, "published", 1.2e-3),
        (f"{RTE} training.lr=1.2e-3", "training.lr", 1.2e-3, "published", 1.2e-3),  # by value, whoever sets it
        (f"{RTE} training.lr=1e-3", "training.lr", 1e-3, "user", 1.2e-3),
        (f"{RTE} method=lora", "training.lr", 1.2e-3, "ours", None),
        (f"{RTE} method=lora training.lr=1e-3", "training.lr", 1e-3, "user", None),
        (f"{RTE} method=sora", "training.lr", 8e-4, "default", None),
        (RTE, "training.weight_decay", 0.01, "published", 0.01),
        (RTE, "method.init_rank", 4, "budget", None),
        (f"{RTE} method.init_rank=3 method.target_rank=2", "method.init_rank", 3, "user", None),
        (RTE, "method.beta1", 0.85, "default", 0.85),
        (f"{RTE} method.beta1=0.5", "method.beta1", 0.5, "user", 0.85),
        (f"{RTE} training.adam_beta2=0.98", "training.adam_beta2", 0.98, "user", 0.999),
        (RTE, "training.total_steps", 3900, "published", 3900),
        (f"{RTE} training.epochs=5", "training.total_steps", 390, "user", 3900),
        (RTE, "method.modules", None, "default", None),
        (f"{RTE} method.modules=[query]", "method.modules", ["query"], "user", None),
        (f"{RTE} task.max_length=128", "task.max_length", 128, "user", 320),
        (RTE, "precision", "fp32", "default", None),
        (f"{RTE} fast=false", "fast", False, "user", None),
        # rows of a table that mix: SQuADv1.1 has no script, so what is borrowed from SQuADv2.0's is ours
        (SQUAD, "training.lr", 1e-3, "published", 1e-3),
        (SQUAD, "method.alpha", 16.0, "ours", None),
        (SQUAD, "training.warmup_steps", 1000, "ours", None),
        (f"{SQUAD} method=lora", "method.init", "kaiming", "published", "kaiming"),
        (f"{SQUAD} method=lora", "method.alpha", 16.0, "ours", None),
        ("task=squad_v2 method=lora budget=0.3M", "method.alpha", 16.0, "published", 16.0),
        # another backbone borrows the values
        (f"{RTE} model=deberta_minilm", "training.weight_decay", 0.01, "ours", None),
        ("task=r8 model=deberta_minilm", "training.weight_decay", 0.01, "default", 0.01),
        # an experiment's values are the user's; the choice of a model is none
        ("experiment=svd_lora task=sst2", "method.init_rank", 2, "user", None),
        ("experiment=packaged", "training.lr", 1e-3, "default", None),
        ("experiment=pocket task=mrpc", "method.alpha", 32.0, "ours", None),
        ("experiment=pocket task=mrpc", "method.init_rank", 3, "budget", None),
    ],
)
def test_an_origin_is_decided_by_value(found, line, key, value, origin, reference):
    option = found(*line.split())[key]
    assert (option.value, option.origin, option.reference) == (value, origin, reference)


def test_scaled_lengths_keep_the_recipe_s_origin_and_say_so(found):
    whole, short = found("task=cola"), found("task=cola", "training.epochs=12.5")
    assert (whole["method.final_steps"].value, whole["method.final_steps"].scaled) == (3500, False)
    option = short["method.final_steps"]
    assert (option.value, option.origin, option.reference, option.scaled) == (1750, "published", 1750, True)
    own = found("task=cola", "training.epochs=12.5", "method.final_steps=2000")["method.final_steps"]
    assert (own.value, own.origin, own.reference, own.scaled) == (2000, "user", 1750, False)
    assert whole["method.alpha"].scaled is None


def test_what_a_form_fixes_is_no_difference(found):
    option = found("task=rte", "method.form=doublets")["method.orthogonality"]
    assert (option.value, option.origin, option.reference, option.fixed) == (0.0, "default", 0.0, True)


def test_a_local_file_is_the_user_s(compose_with, tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "local/default.yaml").write_text("# @package _global_\nmethod:\n  beta1: 0.5\n")
    config = compose_with(tmp_path, "task=rte")
    plan = make_plan(config, config.task.rows)
    option = origins(config, plan.config, ["task=rte", f"hydra.searchpath=[file://{tmp_path}]"], 277)["method.beta1"]
    assert (option.value, option.origin, option.reference) == (0.5, "user", 0.85)


def test_every_option_that_changes_the_numbers_is_there(start, tiny_run):
    import json

    folder = start([*tiny_run, "method=adalora", "training.max_steps=2"])
    result = json.loads((folder / "result.json").read_text())
    parts = {"method": {"name"}, "training": {"epochs", "max_steps", "log_steps", "checkpoint_minutes",
                                              "checkpoint_steps", "activation_checkpointing"}}  # fmt: skip
    for part, others in parts.items():
        for name in result[part].keys() - others:
            assert result["options"][f"{part}.{name}"]["value"] == result[part][name]
    assert result["options"]["training.lr"] == {"value": 0.02, "origin": "user", "reference": None}
