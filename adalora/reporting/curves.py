"""Logged values over steps, averaged over seeds, as frames for the figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from adalora.files.reading import Damaged, read_lines
from adalora.module_paths import layer_of, matches
from adalora.records.result import damaged

POINTS = 60  # most points of a curve: more can't be seen at the figures' size


class Logs:
    """The runs' logs, each read once; `faults` lists those that are missing or damaged."""

    def __init__(self) -> None:
        self.read: dict[Path, pd.DataFrame] = {}
        self.faults: list[str] = []

    def of(self, runs: pd.DataFrame, name: str) -> pd.DataFrame:
        """The lines of log `name` of all runs: `path`, `step` and one column per key. Unreadable logs have no lines."""
        found = []
        for path, result in zip(runs["path"], runs["result"], strict=True):
            if result.evaluations:  # a record has no other log
                lines = pd.DataFrame(result.evaluations if name == "metrics.jsonl" else [])
            else:
                if path / name not in self.read:
                    self.read[path / name] = self.lines(path / name, result.files)
                lines = self.read[path / name]
            found.append(lines.assign(path=path))
        return pd.concat(found) if found else pd.DataFrame()

    def lines(self, path: Path, checksums: Mapping[str, str]) -> pd.DataFrame:
        """Read a log."""
        lines: list[Any] = []
        try:
            for error in damaged(path.parent, checksums, [path.name]):
                raise error
            lines, unreadable = read_lines(path)
            fault = f"{unreadable} lines can't be read" if unreadable else ""
            fault = fault if lines else "no such file, or an empty one"
        except Damaged as error:
            fault = error.reason
        if fault:
            self.faults.append(f"{path.parent.name}/{path.name}: {fault}")
        return pd.DataFrame([{"step": line.step, **line.numbers} for _, line in lines])


def over_seeds(lines: pd.DataFrame, key: str, scale: float = 1.0) -> pd.DataFrame:
    """`x` (the step), and `mean`, `low` and `high` (range of the seeds) of a key, at steps that all runs have."""
    if key not in lines:
        return pd.DataFrame(columns=["x", "mean", "low", "high"])
    known = lines.dropna(subset=[key])
    found = (scale * known.set_index("step")[key]).groupby(level="step").agg(["mean", "min", "max", "count"])
    whole = found[found["count"] == known["path"].nunique()]
    every = -(-len(whole) // POINTS) or 1
    kept = whole[[i % every == 0 or i == len(whole) - 1 for i in range(len(whole))]]
    return kept.reset_index().rename(columns={"step": "x", "min": "low", "max": "high"})


def by_module(lines: pd.DataFrame, targets: Mapping[str, str]) -> pd.DataFrame:
    """`over_seeds` of the mean rank of each kind of module, with its short name as `name`."""
    found = [pd.DataFrame()]
    for name, pattern in targets.items() if len(lines) else ():
        ranks = lines[[path for path in lines if matches(str(path), pattern)]].mean(axis=1)
        found.append(over_seeds(lines[["path", "step"]].assign(rank=ranks), "rank").assign(name=name))
    return pd.concat(found)


def rank_grids(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The mean realised ranks over some runs, by stack of layers: one row per layer, one column per kind of module."""
    targets: Mapping[str, str] = runs["result"].iloc[0].model.get("targets", {})
    rows = [
        (*layer_of(path), name, rank)
        for run in runs["result"] for path, rank in run.ranks.items()
        for name, pattern in targets.items() if matches(path, pattern)
    ]  # fmt: skip
    ranks = pd.DataFrame(rows, columns=["stack", "layer", "module", "rank"])
    return {
        str(stack): each.pivot_table(index="layer", columns="module", values="rank")[
            [name for name in targets if name in set(each["module"])]
        ]
        for stack, each in ranks.groupby("stack", sort=False)
    }


def adaptive(runs: pd.DataFrame) -> bool:
    """Whether any run ends with modules of different ranks."""
    return any(len(set(run.ranks.values())) > 1 for run in runs["result"])
