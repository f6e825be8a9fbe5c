"""A cell: one run identified by its options, before weights and data are known.

A run's key (`adalora/run/folder.py`) also hashes the content of weights and data, so one cell can have several run
folders.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from adalora.config.lengths import fit_lengths
from adalora.config.schema import Config, Resolved, Training
from adalora.records.result import UNCOUNTED
from tasks.options import Task

MODEL_OPTIONS = ("targets", "head", "attention", "classifier_dropout", "pos_query_base_only", "dtype")
"""Options of a backbone that change the numbers, besides the weights."""
LATER: dict[str, Any] = {"dtype": "fp32", "schedule": "linear", "train_modules": []}
"""Options newer than the first records, with the values that stand for the earlier behaviour. An option at this value
is left out of the hash, so that old keys stay the same."""


def cell_id(config: Config) -> str:
    """Hash the options that change the numbers, with lengths scaled for the official row counts, to ten hex digits.

    Paths, tracking, device and logging don't count. A budget counts as its number of parameters or rank, and the size
    that it sets for this model and method, but not by its name. For methods of fixed size it doesn't count.

    Raises:
        UserError: the lengths don't fit into the training.
    """
    eval_rows = rows_of_evaluation(config.task, official_rows(config))
    training, method, _ = fit_lengths(config, config.method, official_steps(config), eval_rows)
    options = scored_options(Resolved.of(config, config.backbone, method, config.budget, training))
    options["model"]["name"] = config.model.name
    options["task"] |= {"eval_split": config.task.eval_split, "eval_rows": config.task.eval_rows}
    options["task"] |= {"held_out": config.task.held_out} if config.task.held_out else {}
    budget = config.budget
    own = budget.settings.get(config.model.name, {}).get(method.name, {})
    options["budget"] = [budget.params, budget.rank, own] if method.has_budget else None
    return digest(options)


def steps_of(training: Training, rows: int) -> int:
    """T: the optimizer steps of training on `rows` rows."""
    return training.max_steps or math.ceil(round(training.epochs * math.ceil(rows / training.batch_size), 6))


def official_rows(config: Config) -> dict[str, int]:
    """Rows of training and of the splits that are evaluated, as far as `conf/task` has their counts."""
    task = config.task
    splits = [task.eval_split] if task.eval_split else task.eval_splits
    rows = {split: task.rows[split] for split in (task.train_split, *splits) if split in task.rows}
    if task.held_out and task.train_split in rows:
        rows[task.train_split] -= task.held_out
        rows |= {split: task.held_out for split in task.eval_splits[:1] if split in splits}
    rows |= {name: other.rows for name, other in getattr(task, "others", {}).items() if other.rows}
    return {
        split: count if split == task.train_split else min(count, task.eval_rows or count)
        for split, count in rows.items()
    }


def rows_of_evaluation(task: Task, rows: Mapping[str, int]) -> int:
    """Rows of every evaluation but the last one, of the rows by split."""
    return sum(count for split, count in rows.items() if split != task.train_split and not task.is_final(split))


def official_steps(config: Config) -> int:
    """T on the official training split, or the recipe's if `conf/task` has no row count."""
    training, rows = config.training, official_rows(config).get(config.task.train_split)
    return steps_of(training, rows) if rows else training.max_steps or config.recipe.total_steps or 1


def scored_options(config: Resolved) -> dict[str, Any]:
    """The options that change a run's numbers as they are hashed: those of `LATER` only if they differ."""
    found = options_of(config) | ({} if config.fast else {"fast": False})
    if config.task.final_splits:
        found["task"]["final_splits"] = config.task.final_splits
    for part in ("model", "task", "training"):
        found[part] = {key: value for key, value in found[part].items() if key not in LATER or value != LATER[key]}
    return found


def options_of(config: Resolved) -> dict[str, Any]:
    """The options that change a run's numbers, by section; paths, tracking, device and budget names don't."""
    return {
        "model": {name: getattr(config.model, name) for name in MODEL_OPTIONS},
        "task": {name: getattr(config.task, name) for name in config.task.scored},
        "method": asdict(config.method),
        "training": {key: value for key, value in asdict(config.training).items() if key not in UNCOUNTED},
        "seed": config.seed,
        "precision": config.precision,
    }


def digest(options: dict[str, Any]) -> str:
    """Hash options to ten hex digits."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:10]
