"""Decide which runs are summarised together, and which can be compared with a published number."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from adalora.methods.adalora.options import FORMS, AdaLoRAConfig
from adalora.methods.discovery import METHODS
from adalora.methods.options import MethodConfig
from adalora.options import written
from adalora.places import CONF
from adalora.reporting.results import Run, budget_of, folder_of
from adalora.resultfile import UNCOUNTED, ModelPart, TaskPart

CONTENT = {"data": "data digests", "task version": "task versions", "weights": "weight digests"}
TOLD = ("direction",)  # a key of a task that isn't an option
NO_NUMBER = ("training.micro_batches", "training.eval_batch_size")  # they affect rounding at most
SETTING = ("length", "precision", "data", "task version", "weights")  # what two runs must have in common to be paired
ALL_OF_NONE = ("modules", "init_from")  # for these None is a choice; elsewhere it means "from the budget or the length"


def options(run: Run) -> dict[str, Any]:
    """The options that determine a run's numbers, without the seed: those of the run's key, as far as the result has
    them.

    `length` is empty if the training has the recipe's number of steps.
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
        **{f"model.{key}": value for key, value in model.items() if key not in ModelPart.model_fields},
        **{f"task.{key}": value for key, value in task.items() if key not in TaskPart.model_fields and key not in TOLD},
        **{f"method.{key}": value for key, value in run["method"].items()},
        **{f"training.{key}": value for key, value in training.items() if key not in UNCOUNTED},
    }


def variants(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Split the runs of one task, method and budget into groups that differ only in the seed.

    A group's name lists what makes it a variant of the method (`variant_of`) and, if that isn't enough, the options
    that differ. Lengths in steps are only listed if nothing else differs.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[variant_of(run)].append(run)
    return {name: same for group in groups.values() for name, same in told_apart(group).items()}


def told_apart(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Split the runs of one variant into groups that differ only in the seed, by name."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[json.dumps(options(run), sort_keys=True)].append(run)
    sets = [json.loads(text) for text in groups]
    apart = {name for name in set().union(*sets) if len({written(each.get(name, "absent")) for each in sets}) > 1}
    lengths = METHODS.get(runs[0]["method"]["name"], MethodConfig).lengths
    following = {"training.total_steps", "training.warmup_steps", "training.eval_steps"}
    following |= {f"method.{name}" for name in lengths}
    short = apart - following if "length" in apart else apart
    own = [unusual(group[0]) for group in groups.values()]
    labels = [label(each, short | names) for each, names in zip(sets, own, strict=True)]
    labels = [
        text if labels.count(text) == 1 else label(each, apart | names)
        for text, each, names in zip(labels, sets, own, strict=True)
    ]
    named: dict[str, list[Run]] = {}
    for text, group in zip(labels, groups.values(), strict=True):
        seeds = [run["seed"] for run in group]
        if len(set(seeds)) == len(seeds):
            named[text] = sorted(group, key=lambda run: run["seed"])
        else:  # the keys differ in something that results don't contain
            named |= {", ".join(filter(None, [text, f"run {folder_of(run)}"])): [run] for run in group}
    return named


def label(options: dict[str, Any], names: set[str]) -> str:
    """Format options for a row's name."""
    texts = [options["length"]] if "length" in names else []
    texts += [
        f"{name.rpartition('.')[2]}={written(options.get(name, 'absent'))}" for name in sorted(names - {"length"})
    ]
    return ", ".join(filter(None, texts))


def unusual(run: Run) -> set[str]:
    """Options to list even if all runs have them: those that differ from what is published.

    These are another length than the recipe's, values other than the published ones and, for options without a
    published value, other than the default. Values chosen by this suite aren't compared. Lengths in steps are only
    compared at the recipe's T. Equal initial and target ranks are listed: AdaLoRA without allocation (SVD-LoRA in Table
    5).
    """
    chosen, (stated, ours), config = options(run), stated_values(run), default_method(run)
    names = {"length"}
    for key, value in stated.items():
        section, _, name = key.rpartition(".")
        if section == "method" and getattr(config, name, None) != getattr(type(config)(), name, None):
            value = getattr(config, name)  # fixed by the form: doublets ignore a recipe's orthogonality
        if key in chosen and chosen[key] != value and not (name in run["recipe"]["lengths"] and chosen["length"]):
            names.add(key)
    for key, default in defaults(run, config).items():
        if key not in stated | ours and chosen.get(key, default) != default:
            names.add(key)
    if chosen.get("method.form", FORMS[0]) != FORMS[0]:
        names.add("method.form")
    start, end = "method.init_rank", "method.target_rank"
    if chosen.get(start) is not None and chosen.get(start) == chosen.get(end):
        names |= {start, end}
    return names


def stated_values(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe's values for a run, by option: published ones, and those chosen by this suite."""
    recipe = run["recipe"]
    published: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    for part in ("protocol", "source"):
        chosen_here = (recipe[part] or "ours").startswith("ours")
        (ours if chosen_here else published).update(recipe["values"].get(part, {}))
    return {key: value for key, value in published.items() if key not in ours}, ours


def default_method(run: Run) -> MethodConfig:
    """The default options of a run's method, for its form if it has several."""
    kind, form = METHODS.get(run["method"]["name"], MethodConfig), run["method"].get("form")
    return AdaLoRAConfig(form=form) if kind is AdaLoRAConfig and form in FORMS else kind()


def defaults(run: Run, config: MethodConfig) -> dict[str, Any]:
    """The defaults of options that no recipe sets, without those that depend on budget or length."""
    parts = {"method": asdict(config), "training": suite("config")["training"]}
    parts["task"] = suite(f"task/{run['task']['name']}")
    values = {f"{part}.{name}": value for part, options in parts.items() for name, value in options.items()}
    decided = [*NO_NUMBER, *(f"method.{name}" for name in ("name", *config.lengths))]
    closed = {key for key, value in values.items() if value is not None} | {f"method.{name}" for name in ALL_OF_NONE}
    return {key: value for key, value in values.items() if key in closed and key not in decided}


@cache
def suite(name: str) -> dict[str, Any]:
    """The values in a file of `conf/` and the shared parts that it includes; empty if there is no such file."""
    path = CONF / f"{name}.yaml"
    if not path.is_file():
        return {}
    own: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    shared = [part for part in own.pop("defaults", []) if isinstance(part, str) and part not in ("schema", "_self_")]
    return {key: value for part in shared for key, value in suite(f"{Path(name).parent}/{part}").items()} | own


def variant_of(run: Run, length: bool = True) -> str:
    """How a run differs from its method as published, in the terms of `paper.ROWS`; empty if it doesn't.

    Args:
        run: a result.
        length: whether to include a length other than the recipe's.
    """
    return label(options(run), unusual(run) - (set() if length else {"length"}))


def few(runs: Sequence[Run]) -> str:
    """List a few of the runs by name."""
    names = [f"{run['method']['name']} {budget_of(run)} {folder_of(run)}" for run in runs[:4]]
    return ", ".join(names + ([f"and {len(runs) - 4} more"] if len(runs) > 4 else []))


def mixtures(runs: Sequence[Run]) -> list[str]:
    """Warnings about runs of one task with different data, weights or task versions."""
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


def versions_of(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The versions of each package among the runs."""
    names = sorted({name for run in runs for name in run["versions"]})
    return {name: sorted({run["versions"].get(name, "unknown") for run in runs}) for name in names}


def several_versions(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Packages with several versions among the runs; they can affect the last digits."""
    return {name: found for name, found in versions_of(runs).items() if len(found) > 1}


def clashes(runs: Sequence[Run]) -> list[str]:
    """Warnings about runs with equal seeds and recorded options but different keys."""
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
