"""Finished runs as one DataFrame, with one row per run and metric, and which of them may be summarised together."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from adalora.errors import UserError
from adalora.files.reading import Damaged
from adalora.records.published import applies, scores_of
from adalora.records.result import NAME, RECORDS, Result, read_result
from adalora.records.variant import Variant, describe, hashable, length_of, variant_of
from adalora.reporting.columns import title_of

PLACE = ["model", "comparable", "subset", "task", "method", "budget"]
"""Runs that differ in one of these are in different rows or tables."""
SETTING = ["length", "precision", "data", "task version", "weights"]
"""What two runs must have in common to be paired."""
CONTENT = {"data": "data digests", "task version": "task versions", "weights": "weight digests"}


@dataclass(frozen=True)
class Row:
    """A row of the frame: a run, and one of its metrics. `read` adds `name` and `title`, its variant in words."""

    path: Path  # folder or record
    run: str  # seed<seed>-<key>
    seed: int
    model: str
    comparable: bool  # whether the model is the papers'
    subset: bool | None  # None: the official row counts aren't known
    rows: str  # "not the official rows", or empty
    applies: bool  # whether the papers' numbers can be compared with it
    task: str
    method: str
    budget: str  # a custom one with its count
    variant: Variant  # how it differs from its method as published
    own: Variant  # the same without the length
    options: Mapping[str, Any]  # all that determine the numbers, without the seed
    headline: str
    kept: int  # adapter parameters at the end
    peak: int
    head: int
    seconds: float
    steps: int
    memory_mb: int
    machine: str
    commit: str
    result: Result
    metric: str
    last: float  # scores in percent; GB; minutes per epoch
    best: float


def read(*roots: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read every valid `result.json` and record below the roots, sorted by path, and a line for each invalid one.

    The columns are those of `Row` and `SETTING`, `name`, and `title`.

    Raises:
        UserError: a root doesn't exist.
    """
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    seen: dict[tuple[Any, ...], str] = {}
    for root in roots:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder: give the runs' with --runs FOLDER")
        files = {*root.rglob(NAME), *root.rglob(RECORDS)}
        for path in sorted(files, key=lambda path: path.relative_to(root).as_posix()):
            label = path.relative_to(root).as_posix()
            own = path.parent if path.name == NAME else path
            try:
                result = read_result(own)
            except Damaged as error:
                skipped.append(f"{label}: {error.reason}")
                continue
            name = f"seed{result.seed}-{result.key}"
            same = (result.key, result.task["name"], result.method["name"], budget_of(result))
            before = seen.get((root, *same)) or seen.get((result.commit, *same))  # another root may be another commit's
            if own.name != name and not own.name.endswith(f"-{name}.json"):
                skipped.append(f"{label}: says seed {result.seed} and key {result.key}, but lies in {own.name}")
            elif before:
                skipped.append(f"{label}: the same run as {before}")
            else:
                try:
                    rows += list(rows_of(own, result))
                except (KeyError, TypeError) as error:
                    skipped.append(f"{label}: it lacks something that tables need ({error})")
                    continue
                seen[root, *same] = seen[result.commit, *same] = label
    return frame_of(rows), skipped


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The frame of some rows, with each variant's name."""
    frame = pd.DataFrame(rows, columns=[*(field.name for field in fields(Row)), *SETTING])
    names: dict[Path, tuple[str, str]] = {}
    for _, group in heads(frame).groupby([*PLACE, "variant"], dropna=False, sort=False):
        names |= tell_apart(group)
    for number, column in enumerate(("name", "title")):
        frame[column] = [names[path][number] for path in frame["path"]]
    return frame


def rows_of(path: Path, result: Result) -> Iterator[dict[str, Any]]:
    """A run's rows, one for each metric of its last step. A split that is scored only there has no best."""
    model, task, training = result.model, result.task, result.training
    run = vars(result) | {"options": {key: vars(option) for key, option in result.options.items()}}
    options = {key: option.value for key, option in result.options.items() if key != "task.version"}
    setting = {
        "length": describe(length_of(run)), "precision": result.precision, "data": task["digest"][:10],
        "task version": task["version"], "weights": model["digest"][:10],
    }  # fmt: skip
    costs = {"peak_memory_gb": result.peak_memory_mb / 1024}
    if not training["max_steps"]:
        costs["minutes_per_epoch"] = result.seconds / 60 / training["epochs"]  # with evaluations, as Table 15
    best = scores_of(run, "best") | costs
    values = scores_of(run, "last") | costs
    row = Row(
        path, f"seed{result.seed}-{result.key}", result.seed, model["title"], model["comparable"], task["subset"],
        "not the official rows" if task["subset"] else "",
        applies(model, task), task["name"], result.method["name"], budget_of(result), variant_of(run),
        variant_of(run, length=False), options | setting, task["headline"], result.parameters["kept"],
        result.parameters.get("peak", 0), result.parameters.get("head", 0), result.seconds, training["total_steps"],
        result.peak_memory_mb, str(result.hardware.get("name", "unknown")), result.commit or "unknown (no checkout)",
        result, "", 0.0, 0.0,
    )  # fmt: skip
    for metric, value in values.items():
        yield vars(row) | setting | {"metric": metric, "last": value, "best": best.get(metric, math.nan)}


def budget_of(run: Result) -> str:
    """The budget's name, with the count if it is custom."""
    name = run.budget["name"]
    return f"custom {run.budget['params']:,}" if name == "custom" else name


def heads(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a run: that of its headline metric."""
    return frame[frame["metric"] == frame["headline"]]


def collapsed(runs: pd.DataFrame, constants: Mapping[str, float]) -> pd.Series:
    """Whether a run scores closer to a constant prediction than to its model's median on its task.

    Args:
        runs: one row per run.
        constants: the score of a constant prediction by task, in percent; runs of other tasks count as not collapsed.
    """
    constant = runs["task"].map(constants).astype(float)
    middle = runs.groupby(["model", "task"])["last"].transform("median")
    return (runs["last"] - constant).abs() < (runs["last"] - middle).abs()


def tell_apart(runs: pd.DataFrame) -> dict[Path, tuple[str, str]]:
    """Name the runs of one variant: those that differ only in the seed have the same name and title.

    A name is the variant, and the options that differ if it isn't enough.
    """
    own, method = runs["variant"].iloc[0], runs["method"].iloc[0]
    texts = pd.DataFrame([{key: json.dumps(v) for key, v in each.items()} for each in runs["options"]], runs.index)
    apart = differing(texts)
    names: dict[Path, tuple[str, str]] = {}
    for _, same in texts.groupby(apart, dropna=False, sort=False) if apart else [((), texts)]:
        group = runs.loc[same.index]
        first = group["options"].iloc[0]
        shown = own | {(name, hashable(first.get(name, "absent"))) for name in apart}
        for path, run in zip(group["path"], group["run"], strict=True):
            # equal seeds: the keys differ in something that results don't contain
            more = [f"run {run}"] if group["seed"].duplicated().any() else []
            name = ", ".join(filter(None, [describe(shown), *more]))
            names[path] = name, title_of(method, shown, *more)
    return names


def differing(options: pd.DataFrame) -> list[str]:
    """The options in which some runs differ: the columns with several values."""
    return [name for name in options if options[name].nunique(dropna=False) > 1]


def warnings_of(runs: pd.DataFrame) -> list[str]:
    """Warnings about runs of one section: different content, what was cut from their data, and mixed packages."""
    lines = []
    for task, mine in sorted(runs.groupby("task"), key=lambda item: str(item[0])):
        for name, plural in CONTENT.items():
            if mine[name].nunique() > 1:
                text = "; ".join(f"{value}: {few(same)}" for value, same in mine.groupby(mine[name].map(str)))
                lines.append(f"{task}: mixed {plural}, never averaged together ({text})")
    texts = runs["options"].map(lambda options: json.dumps(options, sort_keys=True))
    for (task, method, budget, *_), same in runs.groupby(["task", "method", "budget", texts, "seed"], sort=False):
        if len(same) > 1:
            lines.append(
                f"{task}, {method}, {budget}: {' and '.join(same['run'])} differ in something "
                "that result.json doesn't hold, so they have rows of their own"
            )
    lines += [f"{run.task['name']}: {note}" for run in runs["result"] for note in run.task["notes"]]
    for (task, method, budget, _), same in runs.groupby(["task", "method", "budget", "name"], sort=False):
        for package, found in several_versions(same).items():
            lines.append(f"{task}, {method} {budget}: averaged over {package} {' and '.join(found)}")
    return list(dict.fromkeys(lines))


def few(runs: pd.DataFrame) -> str:
    """List a few of the runs by name."""
    names = [f"{run.method} {run.budget} {run.run}" for run in runs[:4].itertuples()]
    return ", ".join(names + ([f"and {len(runs) - 4} more"] if len(runs) > 4 else []))


def versions_of(runs: pd.DataFrame) -> dict[str, list[str]]:
    """The versions of each package among the runs."""
    found = [run.versions for run in runs["result"]]
    names = sorted(set().union(*found))
    return {name: sorted({each.get(name, "unknown") for each in found}) for name in names}


def several_versions(runs: pd.DataFrame) -> dict[str, list[str]]:
    """Packages with several versions among the runs; they can affect the last digits."""
    return {name: found for name, found in versions_of(runs).items() if len(found) > 1}
