"""Finished runs read from disk, the damaged ones named."""

import json
import math
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, get_origin, get_type_hints

from adalora.errors import UserError
from adalora.result import SCHEMA, Result

NUMBER, COUNT = (float, int), (int, type(None))
NEEDED: dict[str, dict[str, Any]] = {
    "model": {"name": str, "title": str, "comparable": bool, "origin": str, "digest": str},
    "task": {"name": str, "version": int, "origin": str, "subset": bool, "digest": str, "rows": dict,
             "train_split": str, "headline": str},
    "method": {"name": str},
    "budget": {"name": str, "params": COUNT},
    "recipe": {"protocol": (str, type(None)), "source": (str, type(None)), "total_steps": COUNT, "lengths": dict,
               "values": dict},
    "parameters": {"kept": int},
    "training": {"epochs": NUMBER, "max_steps": COUNT, "total_steps": int},
}  # fmt: skip

Run = dict[str, Any]  # a result.json


def read_results(root: Path) -> tuple[list[Run], list[str]]:
    """Every good `result.json` below `root`, in the order of their paths, and a line for each other one."""
    found, skipped = read_folders(root)
    return [run for _, run in found], skipped


def read_folders(root: Path) -> tuple[list[tuple[Path, Run]], list[str]]:
    """`read_results`, each with the run's folder. Both raise `UserError` where there is no such root."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder: give the runs' with --runs FOLDER")
    runs: list[tuple[Path, Run]] = []
    skipped = []
    seen: dict[tuple[str, ...], str] = {}
    for path in sorted(root.rglob("result.json"), key=lambda path: path.relative_to(root).as_posix()):
        place = path.relative_to(root).as_posix()
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            skipped.append(f"{place}: not readable as JSON ({type(error).__name__}: {error})")
            continue
        reason = fault(run, path.parent.name)
        if reason is None:
            same = (run["key"], run["task"]["name"], run["method"]["name"], budget_of(run))
            reason = f"the same run as {seen[same]}" if same in seen else None
            seen.setdefault(same, place)
        if reason is None:
            runs.append((path.parent, run))
        else:
            skipped.append(f"{place}: {reason}")
    return runs, skipped


def fault(run: Any, folder: str) -> str | None:
    """Why a decoded result.json can't be used; None if it can."""
    if not isinstance(run, dict) or not isinstance(run.get("schema"), int):
        return "not a result of this suite"
    if run["schema"] != SCHEMA:
        return f"of result schema {run['schema']}, this suite reads {SCHEMA}: run it again"
    hints = get_type_hints(Result)
    for name in (field.name for field in fields(Result)):
        if name not in run:
            return f"has no {name}"
        hint = hints[name]
        kind = hint if isinstance(hint, UnionType) else get_origin(hint) or hint
        if not isinstance(run[name], (float, int) if kind is float else kind):
            return f"{name} is a {type(run[name]).__name__}"
    for name, kinds in NEEDED.items():
        for key, kind in kinds.items():
            if not isinstance(run[name].get(key, ...), kind):
                return f"{name}.{key} is {run[name][key]!r}" if key in run[name] else f"has no {name}.{key}"
    if not all(isinstance(part, dict) for part in run["recipe"]["values"].values()):
        return f"recipe.values is {run['recipe']['values']!r}"
    if run["training"]["epochs"] <= 0:
        return f"training.epochs is {run['training']['epochs']!r}, not positive"
    for step in ("last", "best"):
        if run["task"]["headline"] not in run[step]:
            return f"{step} has no {run['task']['headline']}"
        for name, value in run[step].items():
            unbounded = name == "loss" or name.endswith("_threshold")  # which is of logits
            if not isinstance(value, NUMBER):
                return f"{step}.{name} is {value!r}, not a number"
            if not math.isfinite(value):
                return f"{step}.{name} is {value!r}, not finite"
            if not unbounded and not -1 <= value <= 1:
                return f"{step}.{name} is {value!r}, not a fraction"
    if folder != f"seed{run['seed']}-{run['key']}":
        return f"says seed {run['seed']} and key {run['key']}, but lies in {folder}"
    return None


def budget_of(run: Run) -> str:
    """The budget's name, with the number where the name says none."""
    name = run["budget"]["name"]
    return f"custom {run['budget']['params']:,}" if name == "custom" else name


def folder_of(run: Run) -> str:
    """The name of a run's folder."""
    return f"seed{run['seed']}-{run['key']}"
