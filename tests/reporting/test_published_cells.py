"""Every published number is compared with the run that matches it, and with no other."""

import csv
import re
from dataclasses import asdict

import pytest
import yaml

from adalora.methods.discovery import METHODS
from adalora.paths import PAPER
from adalora.progress.watch import beside_paper
from adalora.records.variant import describe, variant, variant_of
from adalora.sweep.settings import published
from tests.reporting.forged import lines_of, make, resolve_plan, with_options

RANKS = {"adalora": {"init_rank": 3, "target_rank": 2.0}, "lora": {"rank": 2}, "increlora": {"target_rank": 2.0}}
PRINTED = {  # AdaLoRA's Tables 4, 5 and 14 by hand: (page, task, method, budget, variant) -> value
    ("rte", "adalora", "0.3M", ""): "87.73",
    ("rte", "adalora", "0.3M", "importance=magnitude"): "86.28",
    ("rte", "adalora", "0.3M", "importance=sensitivity"): "87.71",
    ("rte", "adalora", "0.3M", "form=doublets"): "86.15",
    ("cola", "adalora", "0.08%", "form=doublets"): "66.71",
    ("mnli", "adalora", "0.6M", "orthogonality=0"): "90.56",
    ("mnli", "adalora", "0.6M", "init_rank=4, target_rank=4"): "90.52",
    ("mnli", "lora", "1.2M", "orthogonality=0.1"): "90.66",
    ("stsb", "lora", "0.3M", "modules=[query,value]"): "91.05",
    ("stsb", "lora", "0.3M", ""): "91.68",
}


def forged(setting, **changes):
    """A result of a published setting: the options as the command gives them, the ranks as the budget does."""
    given = dict(text.split("=", 1) for text in setting.overrides)
    name = given["method"]
    options = {key.removeprefix("method."): yaml.safe_load(value) for key, value in given.items() if "." in key}
    result = make(given["task"], name, given.get("budget", "any"), **{"recipe__values": {}} | changes)
    result["method"] = asdict(METHODS[name](**(RANKS.get(name, {}) | options)))
    return result


def expected(*tables):
    """The printed values by table, counted as often as the files have them."""
    with (PAPER / "adalora_tables.csv").open() as one, (PAPER / "increlora_tables.csv").open() as two:
        rows = [*csv.DictReader(one), *csv.DictReader(two)]
    return sorted(f"{float(row['value']):.2f}" for row in rows if row["table"] in tables and row["value"])


def test_every_ablation_stands_beside_its_own_number(tabulate):
    texts, _ = tabulate(*(forged(setting, last=0.5) for setting in published("ablations")[0]))
    lines = lines_of(texts["ablations.csv"])
    tables = ("AdaLoRA-T4", "AdaLoRA-T5", "AdaLoRA-T14")
    beside = [line for line in lines if line["paper"]]
    assert sorted(line["paper"] for line in beside) == expected(*tables)
    assert all((line["n"], line["median_last"]) == ("1", "50.0000") for line in beside)
    for line in beside:
        assert float(line["difference"]) == pytest.approx(50 - float(line["paper"]))
    for (task, method, budget, name), value in PRINTED.items():
        found = lines_of(texts["ablations.csv"], task=task, method=method, budget=budget, variant=name)
        assert value in {line["paper"] for line in found}, (task, method, budget, name)
    assert all(f" {value} |" in texts["ablations.md"] for value in ("95.52", "95.64"))  # one setting, Tables 4 and 5
    whole = lines_of(texts["glue.csv"], task="rte", budget="0.3M", variant="importance=magnitude", metric="accuracy")
    assert [line["paper"] for line in whole] == ["86.28"]


@pytest.mark.parametrize(
    "change",
    [
        {"method__importance": "magnitude", "method__beta1": 0.5},
        {"method__modules": ["query"]},
        {"method__init_rank": 2, "method__target_rank": 2.0},  # SVD-LoRA, which isn't printed for RTE
        {"training__max_steps": 100, "training__total_steps": 100},
        {"method__form": "doublets", "method__importance": "sensitivity", "method__orthogonality": 0.0},
    ],
)
def test_no_run_stands_beside_another_variants_number(tabulate, change):
    run = make(budget="0.3M", **change)
    texts, _ = tabulate(run)
    assert "glue.csv" in texts
    for page in ("glue", "ablations"):
        for line in lines_of(texts.get(f"{page}.csv", ""), task="rte", budget="0.3M"):
            assert not (line["n"] and line["paper"])
    assert beside_paper(run) == {}


def test_wandb_compares_with_the_same_number():
    run = make(budget="0.3M", last=0.9, method__importance="magnitude")
    assert beside_paper(run) == {"paper/accuracy": 86.28, "paper/difference": 3.72}
    mnli = make("mnli", budget="0.6M", last=0.9, method__orthogonality=0.0)
    assert beside_paper(mnli) == {"paper/accuracy_average": 90.56}


def test_increloras_tables_stand_beside_its_variants(tabulate):
    scores = {"": 0.9, "advance_learning=false": 0.88, "orthogonality=0": 0.87,
              "advance_learning=false, orthogonality=0": 0.86}  # fmt: skip
    runs = []
    for setting in published("increlora")[0]:
        run = with_options(forged(setting))
        run["last"] = dict.fromkeys(run["last"], scores.get(describe(variant_of(run)), 0.9))
        runs.append(run)
    texts, warnings = tabulate(*runs)
    assert warnings == []
    lines = [line for line in lines_of(texts["increlora.csv"]) if line["paper"]]
    tables = ("IncreLoRA-T1", "IncreLoRA-Fig4", "IncreLoRA-T2", "external-reproduction")
    not_shown = ["0.84", "87.30", "88.99"]  # the six seeds' mean and deviation, and an average of other metrics
    assert sorted([line["paper"] for line in lines] + not_shown) == expected(*tables)
    assert [line["budget"] for line in lines if not line["n"]] == ["best over r_avg in {2,4,8,12,16,24}"]
    differences = {(line["task"], line["variant"]): (line["median_last"], line["paper"]) for line in lines
                   if "minus" in line["variant"]}  # fmt: skip
    raw, orthogonal = "(advance_learning=false, orthogonality=0)", "(advance_learning=false)"
    assert differences == {
        ("rte", f"{orthogonal} minus {raw}"): ("2.0000", "1.81"),
        ("rte", f"(orthogonality=0) minus {raw}"): ("1.0000", "1.08"),
        ("rte", f"(as published) minus {orthogonal}"): ("2.0000", "0.36"),
        ("stsb", f"(as published) minus {orthogonal}"): ("2.0000", "0.10"),
    }
    assert "minus" not in texts["glue.csv"]
    assert "median - third party" in texts["increlora.md"]


def test_memory_and_time_stand_beside_table_15(tabulate):
    runs = [make("mnli", method, "0.08%", seconds=60.0 * 50 * minutes, peak_memory_mb=2048)
            for method, minutes in (("lora", 10), ("adalora", 11))]  # fmt: skip
    texts, _ = tabulate(*runs)
    found = {(line["method"], line["metric"]): (line["median_last"], line["paper"], line["budget"])
             for line in lines_of(texts["cost.csv"]) if line["n"]}  # fmt: skip
    assert found == {
        ("lora", "peak_memory_gb"): ("2.0000", "11.09", "0.08%"),
        ("lora", "minutes_per_epoch"): ("10.0000", "105.00", "0.08%"),
        ("adalora", "peak_memory_gb"): ("2.0000", "11.10", "0.08%"),
        ("adalora", "minutes_per_epoch"): ("11.0000", "116.00", "0.08%"),
    }
    assert sorted(line["paper"] for line in lines_of(texts["cost.csv"])) == expected("AdaLoRA-T15")
    assert "best" not in texts["cost.md"].split("# Params")[1].split("1. ")[0]


@pytest.mark.parametrize(
    "change, variant",
    [
        ("training.lr=1e-3", "lr=0.001"),
        ("method.alpha=16", "alpha=16"),
        ("training.warmup_steps=100", "warmup_steps=100"),
        ("recipe.lengths.initial_steps=500", "initial_steps=500"),
        ("training.adam_beta2=0.98", "adam_beta2=0.98"),
        ("training.batch_size=16 training.epochs=25", "batch_size=16"),
        ("model.classifier_dropout=0", "classifier_dropout=0"),
        ("task.max_length=128", "max_length=128"),
        ("training.max_steps=100", "max_steps=100"),
        ("training.eval_batch_size=8 training.micro_batches=4", ""),
        ("method=lora training.lr=1e-3", ""),  # the paper says nothing of LoRA's
        ("method=lora training.weight_decay=0.1", "weight_decay=0.1"),
        ("method.form=doublets", "form=doublets"),
    ],
)
def test_only_a_run_of_the_published_hyperparameters_stands_beside_the_number(compose, change, variant):
    run = resolve_plan(compose, "task=rte", *change.split())
    assert describe(variant_of(run)) == variant
    assert bool(beside_paper(run)) == (variant in ("", "form=doublets"))  # Table 4 prints the latter


@pytest.mark.parametrize(
    "line",
    ["task=rte method=increlora", "task=squad_v1 method=lora", "task=squad_v2 method=adalora", "task=mrpc method=sora",
     "task=xsum method=lora model=bart_large budget=2.20%", "task=cola method=adalora"],
)  # fmt: skip
def test_what_a_recipe_sets_is_no_variant(compose, line):
    assert variant_of(resolve_plan(compose, *line.split())) == variant({})


def test_a_task_of_ones_own_gets_a_table(tabulate):
    own = {"task__headline": "macro_f1"}
    runs = []
    for seed, last in ((1, 0.7), (2, 0.8)):
        run = make("r8", seed=seed, last=last, **own)
        run["task"]["name"] = "my_reviews"
        run["last"]["best_f1_threshold"] = run["best"]["best_f1_threshold"] = 0.3
        runs.append(run)
    texts, lines = tabulate(*runs)
    assert lines == []
    assert "## my_reviews, DeBERTaV3-base" in texts["packaged.md"]
    assert re.search(r"my_reviews macro_f1 \| +my_reviews accuracy \|", texts["packaged.md"])
    found = {line["metric"]: line["median_last"] for line in lines_of(texts["packaged.csv"], task="my_reviews")}
    assert found == {"macro_f1": "75.0000", "accuracy": "75.0000"}


def test_differences_of_runs_told_apart_are_told_apart(tabulate):
    """Two learning rates of one variant give two differences, each with the rate in its name."""
    whole = [forged(setting) for setting in published("increlora")[0] if setting.overrides[0] == "task=stsb"]
    second = forged(next(s for s in published("increlora")[0] if s.overrides == (
        "task=stsb", "method=increlora", "budget=0.3M")), training__lr=1e-4)  # fmt: skip
    texts, _ = tabulate(*whole, second)
    names = [line["variant"] for line in lines_of(texts["increlora.csv"], task="stsb") if "minus" in line["variant"]]
    assert {name for name in names if "lr=0.0001" in name} and len(names) == len(set(names))
