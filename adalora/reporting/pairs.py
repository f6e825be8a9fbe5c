"""Pair the runs of two sides by seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from adalora.records.variant import describe, hashable
from adalora.reporting.frame import SETTING, differing, several_versions
from adalora.statistics.paired import SeedScores


@dataclass(frozen=True)
class Seeds:
    """The runs of one side in one setting: without seeds that have several runs, which `notes` name."""

    runs: pd.DataFrame  # one row per run, by seed
    values: pd.DataFrame  # by seed; columns (step, metric)
    notes: Sequence[str]

    def scores(self, metrics: Sequence[str], step: str) -> SeedScores:
        """The mean of some metrics by seed; seeds that lack one are left out."""
        if self.runs.empty:
            return {}
        wanted = self.values.reindex(columns=[(step, metric) for metric in metrics])
        return wanted.dropna().mean(axis=1).to_dict()

    def only(self, seeds: Sequence[int]) -> "Seeds":
        """The same with some of the seeds."""
        return Seeds(self.runs.loc[seeds], self.values.loc[seeds], self.notes)


EMPTY = Seeds(pd.DataFrame(), pd.DataFrame(), [])
Settings = Mapping[tuple[Any, ...], Seeds]  # by setting, and all options as JSON


def settings(rows: pd.DataFrame, same_machine: bool = False) -> Settings:
    """Split the runs of a cell by what two runs must have in common to be paired, and by their options."""
    options = rows["options"].map(lambda options: json.dumps(options, sort_keys=True))
    groups = rows.groupby([*SETTING, *(["machine"] if same_machine else []), options], sort=False)
    return {key: single(group) for key, group in groups}


def single(rows: pd.DataFrame) -> Seeds:
    """The runs of one side and setting, and notes on seeds with several runs and on mixed package versions."""
    runs = rows.drop_duplicates("path")
    twice = runs[runs["seed"].duplicated(keep=False)]
    notes = [
        f"seed {seed} left out, it has several runs ({', '.join(same['run'])})"
        for seed, same in twice.groupby("seed", sort=False)
    ]
    runs = runs[~runs["seed"].isin(twice["seed"])].set_index("seed").sort_index()
    notes += [f"several versions of {name}: {', '.join(found)}" for name, found in several_versions(runs).items()]
    whole = rows[rows["path"].isin(runs["path"])]
    return Seeds(runs, whole.pivot(index="seed", columns="metric", values=["last", "best"]), notes)


def pair(one: Settings, other: Settings) -> tuple[Seeds, Seeds, list[str]]:
    """The seeds that both sides have, with the setting and options that give most pairs, and notes on what was left
    out. Both are empty if the sides have no seed in common, or if several settings or options give most pairs."""
    common = {
        (mine, theirs): one[mine].runs.index.intersection(other[theirs].runs.index)
        for mine in one for theirs in other if mine[:-1] == theirs[:-1]
    }  # fmt: skip
    best = max(common, key=lambda both: len(common[both]), default=None)
    if best is None or common[best].empty:
        notes = [note for side in (one, other) for seeds in side.values() for note in seeds.notes]
        return EMPTY, EMPTY, list(dict.fromkeys(notes))
    first, second = one[best[0]], other[best[1]]
    task, precision = first.runs["task"].iloc[0], first.runs["precision"].iloc[0]
    tied = [both for both in common if len(common[both]) == len(common[best])]
    if len(tied) > 1:
        return EMPTY, EMPTY, [f"{task}: {'; '.join(choices(one, other, tied))}"]
    notes = [*first.notes, *second.notes, *([f"{task}: in {precision}"] if precision != "fp32" else [])]
    if (count := len({key[:-1] for key in (*one, *other)})) > 1:
        notes.append(f"{task}: {count} settings of data, weights, length or precision; one is used")
    for side, used in ((one, best[0]), (other, best[1])):
        several = [json.loads(key[-1]) for key in side if key[:-1] == used[:-1]]
        if len(several) > 1:
            method, (mine, *others) = side[used].runs["method"].iloc[0], in_words([json.loads(used[-1]), *several])
            rest = " and ".join(text for text in others if text != mine)
            notes.append(f"{task}: of {method} only the runs with {mine} are used, not those with {rest}")
    return first.only(common[best]), second.only(common[best]), list(dict.fromkeys(notes))


def choices(one: Settings, other: Settings, tied: Sequence[tuple[tuple[Any, ...], tuple[Any, ...]]]) -> list[str]:
    """What the user has to choose where several settings or options give as many pairs."""
    lines = []
    if len({mine[:-1] for mine, _ in tied}) > 1:
        lines.append("several settings of data, weights, length or precision give as many pairs: choose one")
    for side, keys in zip((one, other), zip(*tied, strict=True), strict=True):
        several = {key[-1]: json.loads(key[-1]) for key in keys}
        if len(several) > 1:
            method, found = side[keys[0]].runs["method"].iloc[0], sorted(in_words(list(several.values())))
            lines.append(f"{method} has as many pairs with each of {'; '.join(found)}: choose one")
    return lines


def in_words(several: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each of several sets of options in words, by the options in which they differ."""
    keys = differing(pd.DataFrame([{key: json.dumps(v) for key, v in each.items()} for each in several]))
    return [describe(frozenset((key, hashable(each.get(key, "absent"))) for key in keys)) for each in several]
