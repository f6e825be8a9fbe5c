"""Finished runs read from disk, and sorted into what may be summarised together."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, get_origin, get_type_hints

from adalora.cell import UNCOUNTED
from adalora.config.methods import METHOD_CONFIGS, AdaLoRAConfig, MethodConfig
from adalora.config.methods.adalora import FORMS
from adalora.result import SCHEMA, Result

NUMBER, COUNT = (float, int), (int, type(None))
NEEDED: dict[str, dict[str, Any]] = {
    "model": {"name": str, "title": str, "comparable": bool, "origin": str, "digest": str},
    "task": {"name": str, "version": int, "origin": str, "subset": bool, "digest": str, "rows": dict,
             "train_split": str, "headline": str},
    "method": {"name": str},
    "budget": {"name": str, "params": COUNT},
    "recipe": {"protocol": (str, type(None)), "total_steps": COUNT},
    "parameters": {"kept": int},
    "training": {"epochs": NUMBER, "max_steps": COUNT, "total_steps": int},
}  # fmt: skip
CONTENT = {"data": "data digests", "task version": "task versions", "weights": "weight digests"}
TUNED = ("alpha", "dropout", "init", "mask_interval", "orthogonality")  # options that recipes set by task
ALL_OF_NONE = ("modules", "init_from")  # None is a choice here; elsewhere it means "from the budget or the length"

Run = dict[str, Any]  # a result.json


def read_results(root: Path) -> tuple[list[Run], list[str]]:
    """Every good `result.json` below `root`, in the order of their paths, and a line for each other one."""
    runs: list[Run] = []
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
            runs.append(run)
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
    if run["training"]["epochs"] <= 0:
        return f"training.epochs is {run['training']['epochs']!r}, not positive"
    for step in ("last", "best"):
        if run["task"]["headline"] not in run[step]:
            return f"{step} has no {run['task']['headline']}"
        for name, value in run[step].items():
            unbounded = name == "loss" or name.endswith("_threshold")  # which is of logits
            if not isinstance(value, NUMBER):
                return f"{step}.{name} is {value!r}, not a number"
            if not unbounded and not -1 <= value <= 1:  # NaN isn't either
                return f"{step}.{name} is {value!r}, not a fraction"
    if folder != f"seed{run['seed']}-{run['key']}":
        return f"says seed {run['seed']} and key {run['key']}, but lies in {folder}"
    return None


def budget_of(run: Run) -> str:
    """The budget's name, with the number where the name says none."""
    name = run["budget"]["name"]
    return f"custom {run['budget']['params']:,}" if name == "custom" else name


def options(run: Run) -> dict[str, Any]:
    """What decides a run's numbers, without the seed: as the run's key has it, as far as results tell.

    `length` is empty where the training has the recipe's own number of steps.
    """
    training, model, task = run["training"], run["model"], run["task"]
    planned = run["recipe"]["protocol"] and run["recipe"]["total_steps"] == training["total_steps"]
    length = f"max_steps={training['max_steps']}" if training["max_steps"] else f"epochs={training['epochs']:g}"
    return {
        "length": "" if planned else length,
        "precision": run["precision"],
        "data": task["digest"][:10],
        "task version": task["version"],
        "weights": model["digest"][:10],
        **{f"model.{key}": value for key, value in model.items() if key not in NEEDED["model"]},
        **{f"method.{key}": value for key, value in run["method"].items()},
        **{f"training.{key}": value for key, value in training.items() if key not in UNCOUNTED},
    }


def variants(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of one task, method and budget, apart where anything but the seed differs.

    The names list what makes a variant of the method (`variant_of`), and where that is the same, the options that
    differ. Lengths in steps, which follow the training's, are named only where nothing else tells two apart.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[variant_of(run)].append(run)
    return {name: same for group in groups.values() for name, same in told_apart(group).items()}


def told_apart(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of one variant, apart where anything but the seed differs, by a name for each."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[json.dumps(options(run), sort_keys=True)].append(run)
    sets = [json.loads(text) for text in groups]
    apart = {name for name in set().union(*sets) if len({written(each.get(name, "absent")) for each in sets}) > 1}
    lengths = METHOD_CONFIGS.get(runs[0]["method"]["name"], MethodConfig).lengths
    following = {"training.total_steps", "training.warmup_steps", "training.eval_steps"}
    following |= {f"method.{name}" for name in lengths}
    short = apart - following if "length" in apart else apart
    labels = [label(each, short | unusual(each)) for each in sets]
    labels = [
        text if labels.count(text) == 1 else label(each, apart | unusual(each))
        for text, each in zip(labels, sets, strict=True)
    ]
    named: dict[str, list[Run]] = {}
    for text, group in zip(labels, groups.values(), strict=True):
        seeds = [run["seed"] for run in group]
        if len(set(seeds)) == len(seeds):
            named[text] = sorted(group, key=lambda run: run["seed"])
        else:  # keys differ by something that results don't hold
            named |= {", ".join(filter(None, [text, f"run {folder_of(run)}"])): [run] for run in group}
    return named


def written(value: Any) -> str:
    """An option's value, as a row's name or a plan has it."""
    if isinstance(value, float) and value == float(f"{value:g}"):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"  # as the command line has it
    return value if isinstance(value, str) else json.dumps(value)


def label(options: dict[str, Any], names: set[str]) -> str:
    """Some options, as a row's name has them."""
    texts = [options["length"]] if "length" in names else []
    texts += [
        f"{name.rpartition('.')[2]}={written(options.get(name, 'absent'))}" for name in sorted(names - {"length"})
    ]
    return ", ".join(filter(None, texts))


def unusual(options: dict[str, Any]) -> set[str]:
    """Options to name even if all runs share them: another length than the recipe's, and what recipes never set.

    A term that is off where it is on by default, or the other way round, is no recipe's choice. Equal ranks at the
    start and in the end are AdaLoRA without allocation (Table 5's SVD-LoRA).
    """
    kind = METHOD_CONFIGS.get(options["method.name"], MethodConfig)
    form = options.get("method.form")
    config = AdaLoRAConfig(form=form) if kind is AdaLoRAConfig and form in FORMS else kind()
    names = {"length"}
    for field in fields(config):
        name, default = f"method.{field.name}", getattr(config, field.name)
        value = options.get(name, default)
        recipe_sets = field.name in ("name", *config.lengths) or (
            field.name in TUNED and (field.name != "orthogonality" or bool(value) == bool(default))
        )
        chosen = default is not None or field.name in ALL_OF_NONE
        if chosen and value != default and not recipe_sets:
            names.add(name)
    if form not in (None, FORMS[0]):
        names.add("method.form")
    start, end = "method.init_rank", "method.target_rank"
    if options.get(start) is not None and options.get(start) == options.get(end):
        names |= {start, end}
    return names


def variant_of(run: Run) -> str:
    """What sets a run apart from its method as published, under the names of `paper.ROWS`; empty where nothing does."""
    chosen = options(run)
    return label(chosen, unusual(chosen))


def folder_of(run: Run) -> str:
    """The name of a run's folder."""
    return f"seed{run['seed']}-{run['key']}"


def few(runs: Sequence[Run]) -> str:
    """The names of some runs, however many there are."""
    names = [f"{run['method']['name']} {budget_of(run)} {folder_of(run)}" for run in runs[:4]]
    return ", ".join(names + ([f"and {len(runs) - 4} more"] if len(runs) > 4 else []))


def mixtures(runs: Sequence[Run]) -> list[str]:
    """What a table's reader must know: runs of a task that had other data, weights or task versions."""
    lines = []
    for task in sorted({run["task"]["name"] for run in runs}):
        mine = [run for run in runs if run["task"]["name"] == task]
        for name, plural in CONTENT.items():
            values: dict[str, list[Run]] = defaultdict(list)
            for run in mine:
                values[str(options(run)[name])].append(run)
            if len(values) > 1:
                text = "; ".join(f"{value}: {few(values[value])}" for value in sorted(values))
                lines.append(f"{task}: mixed {plural}, never averaged together ({text})")
    return lines


def clashes(runs: Sequence[Run]) -> list[str]:
    """Runs that agree in seed and all recorded options and yet have different keys."""
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        text = json.dumps([options(run), run["seed"]], sort_keys=True)
        groups[run["task"]["name"], run["method"]["name"], budget_of(run), text].append(run)
    return [
        f"{task}, {method}, {budget}: {' and '.join(map(folder_of, group))} differ in something "
        "that result.json doesn't hold, so they have rows of their own"
        for (task, method, budget, _), group in groups.items()
        if len(group) > 1
    ]
