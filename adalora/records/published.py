"""The published numbers in `results/paper/`, with this suite's names.

docs/deviations.md: D-rouge-l.
"""

import csv
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adalora.errors import UserError
from adalora.paths import PAPER
from adalora.records.variant import RANK, Run, Variant, variant

FILES = ("adalora_tables.csv", "increlora_tables.csv", "family/peft_method_comparison.csv")
MODEL = "DeBERTaV3-base"  # backbone of the papers' GLUE and SQuAD tables
BART = "BART-large"  # backbone of AdaLoRA's summarisation tables
LLAMA = "Llama-3.2-3B"  # of PEFT's method comparison
MODELS = (MODEL, BART, LLAMA)
PEFT = "PEFT-MetaMathQA"
COMPARED = (
    "AdaLoRA-T1", "AdaLoRA-T2", "AdaLoRA-T3", "AdaLoRA-T4", "AdaLoRA-T5", "AdaLoRA-T14", "IncreLoRA-T1",
    "IncreLoRA-Fig4", PEFT,
)  # fmt: skip  # tables of scores; where two have a cell, the first one's counts

DATASETS = {
    "MNLI": "mnli", "SST-2": "sst2", "CoLA": "cola", "QQP": "qqp", "QNLI": "qnli", "RTE": "rte", "MRPC": "mrpc",
    "STS-B": "stsb", "ALL": "average", "SQuADv1.1": "squad_v1", "SQuADv2.0": "squad_v2",
    "XSum": "xsum", "CNN/DailyMail": "cnn_dailymail", "GSM8K": "metamath",
}  # fmt: skip
TEST = ("metamath",)  # tasks with published numbers of a test split
METRICS = {
    "acc": "accuracy", "acc_matched": "accuracy_matched", "acc_mismatched": "accuracy_mismatched",
    "acc_avg_m_mm": "accuracy_average", "mcc": "matthews", "f1": "f1", "avg_pearson_spearman": "pearson_spearman",
    "average": "average", "EM": "exact_match", "F1": "f1",
    "R-1": "rouge1", "R-2": "rouge2", "R-L": "rougeLsum",  # the paper doesn't say which L: D-rouge-l
    "acc_test": "exact_number_test", "delta_acc": "accuracy", "delta_avg_corr": "pearson_spearman",
    "gpu_mem_GB": "peak_memory_gb", "time_min_per_epoch": "minutes_per_epoch",
}  # fmt: skip
NO_BUDGET = ("full", "bitfit")  # methods with one row and budget `any`
BUDGETS = {
    "0.16%": "0.3M", "0.32%": "0.6M", "0.65%": "1.2M", "r_avg=2": "0.3M", "llama-3.2-3B-rank32": "9.2M",
}  # fmt: skip
"""Printed sizes -> names of budgets: on DeBERTaV3-base those of Table 1. IncreLoRA's figures print mean ranks, PEFT the
names of configurations."""

ROWS: dict[str, tuple[str, dict[str, Any]]] = {  # printed row name, without "(r=8)" -> method and options
    "Full FT": ("full", {}),
    "BitFit": ("bitfit", {}),
    "HAdapter": ("houlsby", {}),
    "PAdapter": ("pfeiffer", {}),
    "LoRA": ("lora", {}),
    "LoRA (all)": ("lora", {}),
    "LoRA-regu (orthogonal reg on A and B)": ("lora", {"orthogonality": 0.1}),  # AdaLoRA's gamma in that table
    "LoRA (W_q, W_k per row label; caption and text say W_q, W_v)": ("lora", {"modules": ["query", "value"]}),
    "AdaLoRA": ("adalora", {}),
    "Prune LoRA": ("adalora", {"form": "doublets"}),
    "AdaLoRA, s(.)=I(.) sensitivity-only": ("adalora", {"importance": "sensitivity"}),
    "AdaLoRA, S_i=|lambda_i| magnitude": ("adalora", {"importance": "magnitude"}),
    "SVD-LoRA (SVD adaptation + reg, no allocation)": ("adalora", {"init_rank": RANK, "target_rank": RANK}),
    "AdaLoRA gamma=0 (no orthogonal reg)": ("adalora", {"orthogonality": 0}),
    "IncreLoRA": ("increlora", {}),
    "IncreLoRA (third-party re-run)": ("increlora", {}),
}
RAW = variant({"advance_learning": False, "orthogonality": 0})
ORTHOGONAL, ADVANCE, WHOLE = variant({"advance_learning": False}), variant({"orthogonality": 0}), variant({})
CONTRASTS = {  # printed difference of two IncreLoRA variants -> their options
    "raw incremental allocation + orthogonal regularization, delta vs raw": (ORTHOGONAL, RAW),
    "raw incremental allocation + advance learning, delta vs raw": (ADVANCE, RAW),
    "orthogonal regularization + advance learning, delta vs orthogonal regularization only": (WHOLE, ORTHOGONAL),
}
COLUMNS = ("table", "model", "dataset", "metric", "method", "budget_label", "params", "value", "verified")

Difference = tuple[Variant, Variant]  # the first minus the second
Key = tuple[str, str, str, str, Variant | Difference]  # task, metric, method, budget, variant


@dataclass(frozen=True)
class Published:
    """A published number: scores in percent, memory in GB, time in minutes."""

    value: float
    params: str  # as printed
    table: str


def model_of(task: str) -> str:
    """The papers' backbone for a task."""
    return {"xsum": BART, "cnn_dailymail": BART, "metamath": LLAMA}.get(task, MODEL)


def applies(model: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    """Whether the papers' numbers are comparable with a run: it has their backbone, all rows of one of their
    tasks, and the splits that they train on and score."""
    same = model["comparable"] and model["title"] == model_of(task["name"])
    splits = task["train_split"] == "train" and ("test" not in task["rows"] or task["name"] in TEST)
    return bool(same and splits and task["name"] in DATASETS.values() and task["subset"] is False)


def read(path: Path) -> list[dict[str, str]]:
    """Read a file of published numbers.

    Raises:
        UserError: the file can't be read, or a column is missing.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): it belongs to the repository") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} isn't a table of published numbers ({error}): restore it") from error
    missing = set(COLUMNS) - set(rows[0] if rows else ())
    if missing:
        raise UserError(f"{path} has no column {', '.join(sorted(missing))}: restore it")
    return rows


def read_all(folder: Path = PAPER) -> list[dict[str, str]]:
    """Read all files of published numbers. Raises `UserError`."""
    return [row for name in FILES for row in read(folder / name)]


def lora_ranks(rows: list[dict[str, str]]) -> dict[str, str]:
    """LoRA's rank at each budget (Table 9), which is also SVD-LoRA's."""
    return {
        size_of(row["budget_label"]): row["value"]
        for row in rows
        if (row["table"], row["metric"]) == ("AdaLoRA-T9", "rank")
    }


def size_of(label: str) -> str:
    """The budget of a printed size."""
    return BUDGETS.get(label, label)


def named(row: Mapping[str, str]) -> str:
    """A row's printed name without its rank."""
    return re.sub(r" \(r=\d+\)$", "", row["method"])


def identity(row: Mapping[str, str], ranks: Mapping[str, str]) -> tuple[str, str, Variant | Difference] | None:
    """Method, budget and variant of a printed row; None if this suite doesn't have the method."""
    name = named(row)
    budget = size_of(row["budget_label"])
    if name in CONTRASTS:
        return "increlora", budget, CONTRASTS[name]
    if name not in ROWS:
        return None
    method, options = ROWS[name]
    return method, "any" if method in NO_BUDGET else budget, variant(options, ranks.get(budget))


def read_paper(folder: Path = PAPER) -> dict[str, dict[Key, Published]]:
    """The published numbers for methods and metrics of this suite, by table.

    Raises:
        UserError: a file is missing or isn't valid.
    """
    rows = read_all(folder)
    ranks = lora_ranks(rows)
    tables: dict[str, dict[Key, Published]] = {}
    for row in rows:
        task, metric, who = DATASETS.get(row["dataset"]), METRICS.get(row["metric"]), identity(row, ranks)
        if task is None or metric is None or who is None or row["model"] != model_of(task) or not row["value"]:
            continue
        if row["table"] == PEFT and row["budget_label"] not in BUDGETS:  # DoRA and others, as LoRA with other options
            continue
        try:
            value = float(row["value"])
        except ValueError as error:
            raise UserError(
                f"{folder}: {row['table']} has {row['value']!r} where a number should be: restore it"
            ) from error
        tables.setdefault(row["table"], {})[task, metric, *who] = Published(value, row["params"], row["table"])
    return tables


def scores(paper: Mapping[str, Mapping[Key, Published]]) -> dict[Key, Published]:
    """The numbers of the `COMPARED` tables, merged."""
    return {key: cell for table in reversed(COMPARED) for key, cell in paper.get(table, {}).items()}


def factor(metric: str) -> int:
    """What tables multiply a metric by: bits per byte stay as they are, all others are in percent."""
    return 1 if metric.startswith("bits_per_byte") else 100


def decimals(metric: str) -> int:
    """Decimals of a metric in tables."""
    return 4 if metric.startswith("bits_per_byte") else 2


def scores_of(run: Run, step: str) -> dict[str, float]:
    """A run's metrics at its `last` or `best` step as tables have them, with the average of MNLI's two (Table 5)."""
    scores = {name: factor(name) * value for name, value in run[step].items()}
    pair = [scores[name] for name in ("accuracy_matched", "accuracy_mismatched") if name in scores]
    return scores | ({"accuracy_average": statistics.mean(pair)} if len(pair) == 2 else {})
