"""Decide which runs are summarised together, by what their records say."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from adalora.reporting.results import Run, budget_of, folder_of
from adalora.variant import Variant, describe, frozen, length_of, variant_of

CONTENT = {"data": "data digests", "task version": "task versions", "weights": "weight digests"}
SETTING = ("length", "precision", "data", "task version", "weights")  # what two runs must have in common to be paired


def options(run: Run) -> dict[str, Any]:
    """The options that determine a run's numbers, without the seed. `length` is empty if it is the recipe's."""
    return {
        **{key: entry["value"] for key, entry in run["options"].items() if key != "task.version"},
        "length": describe(length_of(run)),
        "data": run["task"]["digest"][:10],
        "task version": run["task"]["version"],
        "weights": run["model"]["digest"][:10],
    }


def variants(runs: Sequence[Run]) -> dict[tuple[Variant, str], list[Run]]:
    """Split the runs of one task, method and budget into groups that differ only in the seed.

    A group has its variant (`variant_of`) and a name: that, and the options that differ if it isn't enough.
    """
    groups: dict[Variant, list[Run]] = defaultdict(list)
    for run in runs:
        groups[variant_of(run)].append(run)
    return {(own, name): same for own, group in groups.items() for name, same in told_apart(own, group).items()}


def told_apart(own: Variant, runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Split the runs of one variant into groups that differ only in the seed, by name."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[json.dumps(options(run), sort_keys=True)].append(run)
    sets = [json.loads(text) for text in groups]
    apart = {name for name in set().union(*sets) if len({json.dumps(each.get(name)) for each in sets}) > 1}
    named: dict[str, list[Run]] = {}
    for each, group in zip(sets, groups.values(), strict=True):
        text = describe(own | {(name, frozen(each.get(name, "absent"))) for name in apart})
        seeds = [run["seed"] for run in group]
        if len(set(seeds)) == len(seeds):
            named[text] = sorted(group, key=lambda run: run["seed"])
        else:  # the keys differ in something that results don't contain
            named |= {", ".join(filter(None, [text, f"run {folder_of(run)}"])): [run] for run in group}
    return named


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
