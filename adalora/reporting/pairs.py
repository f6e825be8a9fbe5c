"""Pair the runs of two sides by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from adalora.reporting.frame import SETTING, several_versions
from adalora.statistics.paired import SeedScores


@dataclass(frozen=True)
class Seeds:
    """The runs of one side in one setting: without seeds that have several runs, which `notes` name."""

    runs: pd.DataFrame  # one row per run, by seed
    values: pd.DataFrame  # by seed; columns (step, metric)
    notes: Sequence[str]

    def scores(self, metrics: Sequence[str], step: str) -> SeedScores:
        """The mean of some metrics by seed; seeds that lack one are left out."""
        wanted = self.values.reindex(columns=[(step, metric) for metric in metrics])
        return wanted.dropna().mean(axis=1).to_dict()

    def only(self, seeds: Sequence[int]) -> "Seeds":
        """The same with some of the seeds."""
        return Seeds(self.runs.loc[seeds], self.values.loc[seeds], self.notes)


Settings = Mapping[tuple[Any, ...], Seeds]


def settings(rows: pd.DataFrame, same_machine: bool = False) -> Settings:
    """Split the runs of a cell by what two runs must have in common to be paired."""
    groups = rows.groupby([*SETTING, "machine"] if same_machine else SETTING, sort=False)
    return {setting: single(group) for setting, group in groups}


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


def pair(one: Settings, other: Settings) -> tuple[Seeds, Seeds, list[str]] | None:
    """The seeds that both sides have, within the setting with most pairs, and notes on what was left out.

    None if the sides have no seed in common.
    """
    keys = list(dict.fromkeys([*one, *other]))
    pairs = {
        key: one[key].runs.index.intersection(other[key].runs.index) for key in keys if key in one and key in other
    }
    best = max(pairs, key=lambda key: len(pairs[key]), default=None)
    if best is None or pairs[best].empty:
        return None
    first, second = one[best], other[best]
    task, precision = first.runs["task"].iloc[0], first.runs["precision"].iloc[0]
    notes = [*first.notes, *second.notes, *([f"{task}: in {precision}"] if precision != "fp32" else [])]
    if len(keys) > 1:
        notes.append(f"{task}: {len(keys)} settings of data, weights, length or precision; one is used")
    return first.only(pairs[best]), second.only(pairs[best]), list(dict.fromkeys(notes))
