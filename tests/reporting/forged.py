"""Forged results, in the form that runs write."""

import csv
import dataclasses
import io
import json
from functools import cache
from pathlib import Path

import yaml

from adalora.files.reading import adapter, sealed
from adalora.methods.discovery import METHODS
from adalora.paths import CONF
from adalora.planning.origins import Known, decide, fixed_by_form, origins
from adalora.planning.plan import make_plan
from adalora.records.result import SCHEMA, UNCOUNTED, ModelPart, Result, TaskPart
from adalora.reporting.columns import GLUE
from adalora.reporting.frame import frame_of, rows_of

MINILM = {"name": "deberta_minilm", "title": "MiniLM_L6 & co", "comparable": False}
METRICS = {task: [column.metric for column in GLUE if column.task == task] for task in {c.task for c in GLUE}}
METRICS |= {"r8": ["accuracy", "macro_f1"]} | {task: ["f1", "exact_match"] for task in ("squad_v1", "squad_v2")}
METRICS |= {task: ["rouge2", "rouge1", "rougeL", "rougeLsum"] for task in ("xsum", "cnn_dailymail")}
BART = {"model__name": "bart_large", "model__title": "BART-large"}


def make(task="rte", method="adalora", budget="0.3M", seed=1, last=0.8628, best=0.87, **changes):
    """A result; `changes` go into the parts named as `part__key`."""
    metrics = METRICS.get(task, ["accuracy"])
    parts = {
        "model": {"name": "deberta_v3_base", "title": "DeBERTaV3-base", "comparable": True, "origin": "hub x@1",
                  "digest": "030a072f5243"},
        "task": {"name": task, "version": 1, "origin": "hub nyu-mll/glue@abc", "subset": False,
                 "digest": "29c3aa3b45028", "rows": {"train": 2490, "validation": 277}, "train_split": "train",
                 "headline": metrics[0], "direction": "max", "notes": []}
                | {"rte": {"max_length": 320}, "r8": {"metrics": metrics}}.get(task, {}),
        "method": {"name": method} | ({"alpha": 32.0, "orthogonality": 0.3, "beta1": 0.85, "initial_steps": 600}
                                      if method == "adalora" else {}),
        "budget": {"name": budget, "params": 331776, "deviation": 0.0},
        "recipe": {"name": "paper", "protocol": "script", "source": "Table 8", "total_steps": 3900,
                   "lengths": {"warmup_steps": 200, "eval_steps": 100, "initial_steps": 600},
                   "values": {"protocol": {"training.warmup_steps": 200, "training.eval_steps": 100},
                              "source": {"training.lr": 1.2e-3, "method.alpha": 32.0, "method.orthogonality": 0.3,
                                         "method.initial_steps": 600} if method == "adalora" else {}}},
        "training": {"epochs": 50.0, "max_steps": None, "total_steps": 3900, "batch_size": 32, "lr": 1.2e-3,
                     "warmup_steps": 200, "eval_steps": 100, "log_steps": 10, "checkpoint_steps": 100},
        "parameters": {"peak": 663840, "kept": 331776, "head": 592130, "total": 1255970},
    }  # fmt: skip
    top = {"commit": "abc123", "schema": SCHEMA, "precision": "fp32", "key": "0123456789", "cell": "c0"}
    top |= {"seconds": 3725.4, "peak_memory_mb": 1}
    for name, value in changes.items():
        part, _, key = name.partition("__")
        if key:
            parts[part][key] = value
        else:
            top[name] = value
    fields = dict(
        **parts, **top, seed=seed, last=dict.fromkeys(metrics, last) | {"loss": 0.5}, last_step=3900,
        best=dict.fromkeys(metrics, best) | {"loss": 0.4}, best_step=3100, ranks={"a": 2},
        command=["train.py"], versions={}, hardware={}, options={}, files={}, evaluations=[], rows={},
    )  # fmt: skip
    assert fields.keys() == {field.name for field in dataclasses.fields(Result)}
    return with_options(fields)


def resolve_plan(compose, *overrides):
    """A result with the options that a run of these overrides would have."""
    config = compose(*overrides)
    plan = make_plan(config, config.task.rows)
    found = origins(config, plan.config, overrides, sum(config.task.rows.values()) - plan.rows)
    run = make(config.task.name, config.method.name, precision=config.precision)
    options = {key: option.as_dict() for key, option in found.items()}
    return run | {"options": options, "training": dataclasses.asdict(plan.config.training)}


@cache
def trained():
    """The defaults of training."""
    return yaml.safe_load((CONF / "config.yaml").read_text())["training"]


def with_options(result):
    """The result with its options and their origins, as its recipe's values and the defaults decide them."""
    kind, recipe, task = METHODS.get(result["method"]["name"]), result["recipe"], result["task"]
    parts = {part: recipe.get("values", {}).get(part, {}) for part in ("protocol", "source")}
    stated = parts["protocol"] | parts["source"]
    published = {key: not (recipe[part] or "ours").startswith("ours") for part, own in parts.items() for key in own}
    if recipe["protocol"]:
        stated["recipe.total_steps"] = recipe["total_steps"]
        published["recipe.total_steps"] = not recipe["protocol"].startswith("ours")
    values = {
        **{f"model.{key}": value for key, value in result["model"].items() if key not in ModelPart.model_fields},
        **{f"task.{key}": value for key, value in task.items() if key not in (*TaskPart.model_fields, "direction")},
        **{f"method.{key}": value for key, value in result["method"].items() if key != "name"},
        **{f"training.{key}": value for key, value in result["training"].items() if key not in UNCOUNTED},
        "precision": result["precision"],
    }  # fmt: skip
    plain = {key: value for key, value in values.items() if key.startswith(("model.", "task."))}
    plain |= {f"training.{key}": value for key, value in trained().items()}
    plain |= {f"method.{key}": value for key, value in (dataclasses.asdict(kind()) if kind else {}).items()}
    if "task.max_length" in plain:
        plain["task.max_length"] = 320
    lengths = {"training.warmup_steps", "training.eval_steps"}
    lengths |= {f"method.{name}" for name in (kind.lengths if kind else ())}
    form = result["method"].get("form")
    known = Known(values, plain, stated, published, lengths, fixed_by_form(kind(form=form)) if form else set())
    options = decide(values, known, task["rows"].get("validation", 0))
    return result | {"options": {key: option.as_dict() for key, option in options.items()}}


def frame(*results):
    """The frame of some results, without files."""
    read = [adapter(Result).validate_json(json.dumps(with_options(result)), strict=True) for result in results]
    return frame_of([row for number, each in enumerate(read) for row in rows_of(Path(str(number)), each)])


def put(root, *results):
    """The results in run folders below `root`, which is returned."""
    for number, result in enumerate(results):
        if result["key"] == "0123456789":
            result["key"] = f"{number:010x}"
        model, task = result["model"]["name"], result["task"]["name"]
        place = root / model / task / result["method"]["name"] / result["budget"]["name"]
        folder = place / f"seed{result['seed']}-{result['key']}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(sealed(with_options(result))))
    return root


def lines_of(text, **wanted):
    return [line for line in csv.DictReader(io.StringIO(text)) if wanted.items() <= line.items()]
