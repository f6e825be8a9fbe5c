"""The recipes against the published hyperparameters, and lengths that scale with T."""

import csv
import math
from copy import deepcopy
from fractions import Fraction
from pathlib import Path

import pytest

from adalora.config.lengths import fit_lengths
from adalora.config.schema import Resolved
from adalora.errors import UserError
from adalora.planning.plan import make_plan

ROOT = Path(__file__).parents[2]
GLUE = {"CoLA", "MNLI", "MRPC", "QNLI", "QQP", "RTE", "SST-2", "STS-B"}


def published(row_type, budget):
    """Rows of the paper's AdaLoRA runs on GLUE, by our task names."""
    with (ROOT / "results/paper/adalora_hparams.csv").open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["row_type"] == row_type
            and row["method"] == "AdaLoRA"
            and row["model"] == "DeBERTaV3-base"
            and row["task"] in GLUE
            and row["budget_label"].startswith(budget)
        ]
    assert len(rows) == 8
    return {row["task"].lower().replace("-", ""): row for row in rows}


def warmup_steps(row):
    if row["lr_warmup_steps"]:
        return int(row["lr_warmup_steps"])
    return math.ceil(Fraction(row["lr_warmup_ratio"]) * int(row["total_steps_T"]))  # as transformers does


def hyperparameters(row):
    """A row's values under our keys."""
    return {
        "training.epochs": float(row["epochs"]),
        "training.total_steps": int(row["total_steps_T"]),
        "training.batch_size": int(row["train_batch_total"]),
        "training.lr": float(row["learning_rate"]),
        "training.warmup_steps": warmup_steps(row),
        "training.weight_decay": float(row["weight_decay"]),
        "training.max_grad_norm": float(row["max_grad_norm"].removesuffix(" (default)")),
        "training.eval_steps": int(row["eval_steps"]),
        "model.classifier_dropout": float(row["cls_dropout"]),
        "task.max_length": int(row["max_seq_length"]),
        "method.alpha": float(row["lora_alpha"]),
        "method.dropout": float(row["lora_dropout"].removesuffix(" (not exposed)")),
        "method.orthogonality": float(row["gamma_reg_orth"]),
        "method.initial_steps": int(row["t_i_init_warmup"]),
        "method.mask_interval": int(row["delta_T"]),
        "method.final_steps": int(row["t_f_final_warmup"]),
        "method.beta1": float(row["beta1"]),
        "method.beta2": float(row["beta2"]),
    }


def scripts(rank):
    """Rows of IncreLoRA's released scripts on GLUE, by our task names."""
    with (ROOT / "results/paper/increlora_hparams.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if f"NLU/scripts/rank={rank}/" in row["source"]]
    assert len(rows) == 8
    return {row["task"].lower().replace("-", ""): row for row in rows}


def increlora_s(row):
    """The values of an IncreLoRA row under our keys."""
    row = bare(row)
    return increlora_anywhere(row) | {
        "training.total_steps": int(row["total_steps_T"]),
        "training.batch_size": int(row["train_batch_total"]),
        "training.eval_steps": int(row["eval_steps"]),
        "model.classifier_dropout": float(row["cls_dropout"]),
        "task.max_length": int(row["max_seq_length"]),
        "method.advance_learning": row["advance_learn"] == "True",
        "method.restart_warmup": row["multi_lr"] == "True",
    }


def bare(row):
    """A row's values without the remark that they are defaults."""
    return {key: value.removesuffix(" (default)").removesuffix(" (default map)") for key, value in row.items()}


def increlora_anywhere(row):
    """The values of all IncreLoRA rows, also outside GLUE."""
    plain = bare(row)
    return {
        "training.epochs": float(plain["epochs"]),
        "training.lr": float(plain["learning_rate"]),
        "training.warmup_steps": int(plain["lr_warmup_steps"]),
        "training.weight_decay": float(plain["weight_decay"]),
        "method.init_rank": int(plain["lora_r_init"]),
        "method.add_rank": int(plain["incre_rank_num"]),
        "method.top_h": int(plain["top_h"]),
        "method.alpha": float(plain["lora_alpha"]),
        "method.dropout": float(plain["lora_dropout"]),
        "method.orthogonality": float(plain["reg_orth_coef"]),
        "method.initial_steps": int(plain["init_warmup"]),
        "method.interval": int(plain["incre_interval"]),
        "method.beta1": float(plain["beta1"]),
        "method.beta2": float(plain["beta2"]),
    }


FEW = 32  # evaluation rows that any interval has room for


def settle(config, steps=None, eval_rows=FEW):
    """The configuration with its lengths for this many steps (default: the recipe's), and the notes."""
    training, method, notes = fit_lengths(config, config.method, steps or config.recipe.total_steps, eval_rows)
    return Resolved.of(config, config.model, method, config.budget, training), notes


def in_force(config, keys):
    return {key: getattr(getattr(config, key.split(".")[0]), key.split(".")[1]) for key in keys}


TASKS = sorted(task.lower().replace("-", "") for task in GLUE)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("recipe, row_type, budget", [("paper", "merged", "0.3M"), ("official_scripts", "script", "")])
def test_a_recipe_is_what_was_published(compose, task, recipe, row_type, budget):
    expected = hyperparameters(published(row_type, budget)[task])
    config = compose("model=deberta_v3_base", f"task={task}", "method=adalora", f"recipe={recipe}")
    assert config.recipe.protocol
    assert f"run_debertav3_{task}.sh" in config.recipe.source
    assert ("Table 8" in config.recipe.source) == (recipe == "paper")
    # a run over the official rows takes the published lengths as they are
    eval_rows = sum(config.task.rows[split] for split in config.task.eval_splits)
    resolved, notes = settle(config, eval_rows=eval_rows)
    assert in_force(resolved, expected) == expected
    assert notes == []


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("budget, rank", [("0.3M", 2), pytest.param("1.2M", 8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("recipe", ["paper", pytest.param("official_scripts", marks=pytest.mark.slow)])
def test_increlora_s_recipe_is_the_script(compose, task, budget, rank, recipe):
    """docs/deviations.md: D-incre-recipe. The plan has what the budget decides."""
    row = scripts(rank)[task]
    expected = increlora_s(row)
    config = compose(
        "model=deberta_v3_base", f"task={task}", "method=increlora", f"recipe={recipe}", f"budget={budget}"
    )
    if (task, rank) == ("stsb", 8):  # that file is a copy of rank 2's, target and all
        expected["method.add_rank"] = 4
        assert "rank=2/run_stsb.sh" in config.recipe.source
    else:
        assert config.recipe.source == row["source"]
    plan = make_plan(config, config.task.rows)
    assert in_force(plan.config, expected) == expected
    assert plan.total_steps == expected["training.total_steps"]
    assert plan.config.method.target_rank == rank


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("budget", ["0.08%", "0.16%", "0.3M", "0.32%", "0.6M", "0.65%", "1.2M"])
def test_increlora_s_recipes_reach_every_budget(compose, task, budget):
    config = compose("model=deberta_v3_base", f"task={task}", "method=increlora", f"budget={budget}")
    plan = make_plan(config, config.task.rows)  # refuses a training that is too short
    assert plan.solution.counts.kept == config.budget.params + 72 * plan.config.method.target_rank


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("recipe", ["paper", "official_scripts"])
def test_the_baseline_shares_adalora_s_protocol(compose, task, recipe):
    adalora, lora = (
        compose("model=deberta_v3_base", f"task={task}", f"method={method}", f"recipe={recipe}")
        for method in ("adalora", "lora")
    )
    shared = {key for key in hyperparameters(published("merged", "0.3M")[task]) if not key.startswith("method.")}
    shared -= {"training.lr"}  # tuned a method
    assert in_force(settle(lora)[0], shared) == in_force(settle(adalora)[0], shared)
    assert lora.recipe.protocol == adalora.recipe.protocol


def test_the_recipes_differ_where_paper_and_scripts_do(compose):
    """docs/deviations.md: D-cola, D-qnli, D-qqp, D-stsb, D-agree."""
    differ = {}
    for task in TASKS:
        paper, scripts = (
            compose("model=deberta_v3_base", f"task={task}", "method=adalora", f"recipe={recipe}")
            for recipe in ("paper", "official_scripts")
        )
        keys = hyperparameters(published("merged", "0.3M")[task])
        one, other = in_force(settle(paper)[0], keys), in_force(settle(scripts)[0], keys)
        differ[task] = {key: (one[key], other[key]) for key in keys if one[key] != other[key]}
    assert {task: pairs for task, pairs in differ.items() if pairs} == {
        "cola": {"training.lr": (5e-4, 8e-4), "method.orthogonality": (0.5, 0.1)},
        "qnli": {"training.lr": (1.2e-3, 5e-4)},
        "qqp": {"training.lr": (5e-4, 8e-4)},
        "stsb": {"method.orthogonality": (0.1, 0.3)},
    }


@pytest.mark.parametrize("label", ["0.3M", "0.6M", "1.2M"])
def test_budgets_have_the_published_ranks(compose, label):
    options = compose("task=rte", "method=adalora", f"budget={label}")
    method = make_plan(options, options.task.rows).config.method
    for row in published("merged", label).values():
        assert (method.init_rank, method.target_rank) == (int(row["lora_r_init"]), int(row["target_rank_avg"]))


def lengths(resolved):
    """Warm-up, evaluation interval, t_i, t_f, Delta_T."""
    training, method = resolved.training, resolved.method
    return (
        training.warmup_steps,
        training.eval_steps,
        method.initial_steps,
        method.final_steps,
        method.mask_interval,
    )


def test_lengths_scale_in_proportion(compose):
    config = compose("task=cola")  # T = 6700
    before = deepcopy(config)
    assert lengths(settle(config)[0]) == (100, 100, 800, 3500, 10)
    resolved, notes = settle(config, 3350)
    assert lengths(resolved) == (50, 50, 400, 1750, 5)
    assert resolved.training.total_steps == 3350
    assert sorted(notes) == [
        "method.final_steps 3500 -> 1750",
        "method.initial_steps 800 -> 400",
        "method.mask_interval 10 -> 5",
        "training.eval_steps 100 -> 50",
        "training.warmup_steps 100 -> 50",
    ]
    assert config == before  # nothing is rewritten


def test_lengths_grow_too(compose):
    assert lengths(settle(compose("task=cola"), 13400)[0]) == (200, 200, 1600, 7000, 20)


def test_what_the_user_set_stays(compose):
    resolved, notes = settle(compose("task=cola", "training.warmup_steps=33", "method.initial_steps=90"), 3350)
    assert lengths(resolved) == (33, 50, 90, 1750, 5)
    assert sorted(notes) == [
        "method.final_steps 3500 -> 1750",
        "method.mask_interval 10 -> 5",
        "training.eval_steps 100 -> 50",
    ]


def test_a_length_set_in_a_file_stays_too(compose_with, tmp_path):
    """Values set in a user's file on Hydra's search path count as set, like those on the command line."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "short.yaml").write_text("# @package training\nwarmup_steps: 33\nmax_steps: 3350\n")
    config = compose_with(tmp_path, "task=cola", "+mine=short")
    assert config.training.max_steps == 3350
    assert lengths(settle(config, 3350)[0]) == (33, 50, 400, 1750, 5)


def test_another_length_of_the_recipe_scales(compose):
    config = compose("task=cola", "recipe.lengths.warmup_steps=1000")
    assert lengths(settle(config, 3350)[0]) == (500, 50, 400, 1750, 5)


def test_evaluations_see_no_more_rows_than_training(compose):
    config = compose("task=cola")  # evaluation every 100 steps of 32 rows
    scaled, notes = settle(config, 670, 1043)
    assert scaled.training.eval_steps == 33  # not 10: 33 x 32 are the first to be 1043 or more
    assert "training.eval_steps 100 -> 33" in notes
    unchanged, notes = settle(config, 670, 1_000_000)
    assert unchanged.training.eval_steps == 100
    assert not [note for note in notes if "eval_steps" in note]
    assert settle(config, 13400, 1_000_000)[0].training.eval_steps == 200


def test_intervals_stay_at_1_or_more(compose):
    assert lengths(settle(compose("task=cola"), 10)[0]) == (0, 1, 1, 5, 1)


@pytest.mark.parametrize("steps", [6700, 9000])
def test_without_the_recipe_s_t_nothing_scales(compose, steps):
    resolved, notes = settle(compose("task=cola", "recipe.total_steps=null"), steps)
    assert (lengths(resolved), notes) == ((100, 100, 800, 3500, 10), [])


def test_unscaled_lengths_must_fit(compose):
    config = compose("task=cola", "recipe.total_steps=null")
    with pytest.raises(UserError, match=r"method\.initial_steps=800.*method\.final_steps=3500.*4300"):
        settle(config, 4300)


def test_user_s_lengths_must_fit(compose):
    config = compose("task=cola", "method.final_steps=3000")
    with pytest.raises(UserError, match=r"method\.initial_steps=400.*method\.final_steps=3000.*3350"):
        settle(config, 3350)


def test_without_a_recipe_the_method_fills_in_its_share(compose):
    config = compose("model=deberta_minilm", "task=rte", "method.mask_interval=10")
    assert config.recipe.source is None
    resolved, notes = settle(config, 1950)
    # 15 and 45 % of T; the protocol's own lengths belong to T = 3900
    assert lengths(resolved) == (100, 50, 292, 877, 10)
    assert sorted(notes) == ["training.eval_steps 100 -> 50", "training.warmup_steps 200 -> 100"]
    assert lengths(settle(compose("model=deberta_minilm", "task=rte"), 1950)[0])[-1] == 1  # released default


@pytest.mark.parametrize(
    "model, task, budget", [("deberta_v3_base", "squad_v2", "0.16%"), ("bart_large", "xsum", "0.26%")]
)
@pytest.mark.parametrize("recipe", ["paper", "official_scripts"])
def test_increlora_s_recipe_beyond_glue_is_the_script(compose, model, task, budget, recipe):
    """docs/deviations.md: D-incre-xsum."""
    with (ROOT / "results/paper/increlora_hparams.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["task"].lower().replace("v2.0", "_v2") == task]
    config = compose(f"model={model}", f"task={task}", "method=increlora", f"recipe={recipe}", f"budget={budget}")
    expected = increlora_anywhere(row)
    add_rank = expected.pop("method.add_rank")  # follows the target, which the plan has
    if row["total_steps_T"]:
        expected |= {"training.total_steps": int(row["total_steps_T"])}
        expected |= {"training.eval_steps": int(row["steps_per_epoch"])}
    else:
        expected |= {"training.eval_steps": int(row["eval_steps"])}
    assert in_force(settle(config)[0], expected) == expected
    assert config.recipe.source == row["source"]
    plan = make_plan(config, config.task.rows)
    assert (plan.config.method.target_rank, plan.config.method.add_rank) == (2, add_rank)


@pytest.mark.parametrize("budget", ["0.08%", "0.16%", "0.32%", "0.65%", "1.2M"])
def test_increlora_reaches_every_budget_on_squad(compose, budget):
    config = compose("model=deberta_v3_base", "task=squad_v2", "method=increlora", f"budget={budget}")
    make_plan(config, config.task.rows)  # refuses a training that is too short


def test_the_summarisation_script_s_initial_rank(compose):
    """docs/deviations.md: D-init-rank."""
    config = compose("model=bart_large", "task=cnn_dailymail", "method=adalora", "budget=0.26%")
    method = make_plan(config, config.task.rows).config.method
    assert (method.init_rank, method.target_rank) == (4, 2)
