"""Cells over seeds: one row per cell and metric. docs/deviations.md: D-median."""

from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

import pandas as pd

from adalora.records.variant import Variant
from adalora.reporting.columns import AVERAGE, GLUE, Column, title_of
from adalora.statistics.seeds import summary

ROW = ["method", "budget", "name", "title", "variant"]
"""What a table has a row for."""
CELL = [*ROW, "task", "metric"]
SUMMARY = [
    "n", "seeds", "median_last", "min", "max", "std", "mean_last", "low_last", "high_last", "bca_low_last",
    "bca_high_last", "median_best", "mean_best", "low_best", "high_best", "kept", "commits", "paths",
]  # fmt: skip


def summarise(frame: pd.DataFrame, columns: Iterable[Column]) -> pd.DataFrame:
    """Summarise the seeds of every cell: one row per cell and metric, with the columns `CELL` and `SUMMARY`.

    Args:
        frame: runs of one table (`frame.read`).
        columns: the tasks and metrics to summarise; GLUE's average is added to the rows that have all of its tasks.
    """
    wanted = {column[:2] for column in columns}
    frame = frame.loc[[pair in wanted for pair in zip(frame["task"], frame["metric"], strict=True)]]
    rows = [dict(zip(CELL, key, strict=True)) | cell(group) for key, group in frame.groupby(CELL, sort=False)]
    cells = pd.DataFrame(rows, columns=[*CELL, *SUMMARY])
    return pd.concat([cells, averages(frame, cells)]) if AVERAGE[:2] in wanted else cells


def cell(runs: pd.DataFrame) -> dict[str, Any]:
    """The summary of a cell: median, mean, Student's 95 % interval and, from ten seeds on, BCa's."""
    runs = runs.sort_values("seed")
    found: dict[str, Any] = origin(runs) | {"n": len(runs), "min": runs["last"].min(), "max": runs["last"].max()}
    for step in ("last", "best"):
        if step == "best" and runs[step].isna().any():  # a split that is scored after the last step only has none
            continue
        values = summary(runs[step].to_numpy())
        low, high = values.interval or (None, None)
        found |= {f"median_{step}": values.median, f"mean_{step}": values.mean}
        found |= {f"low_{step}": low, f"high_{step}": high}
        if step == "last":
            bca_low, bca_high = values.bca or (None, None)
            found |= {"std": values.std, "bca_low_last": bca_low, "bca_high_last": bca_high}
    return found


def origin(runs: pd.DataFrame) -> dict[str, Any]:
    """The runs of a cell, their seeds and commits, and the median of their adapter parameters at the end."""
    runs = runs.drop_duplicates("path")
    return {
        "seeds": " ".join(map(str, sorted(set(runs["seed"])))), "kept": runs["kept"].median(),
        "commits": "; ".join(sorted(set(runs["commit"]))), "paths": frozenset(runs["path"]),
    }  # fmt: skip


def average(values: Mapping[tuple[str, str], float]) -> float | None:
    """The paper's average over the eight tasks, with the pairs of MNLI and QQP averaged first; None unless all are
    given.

    Args:
        values: by (task, metric).
    """
    if any(column[:2] not in values for column in GLUE):
        return None
    tasks = dict.fromkeys(column.task for column in GLUE)
    return mean(mean(values[column[:2]] for column in GLUE if column.task == task) for task in tasks)


def averages(frame: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """GLUE's average of the medians, for rows with all eight tasks. It has no spread: its seeds aren't one sample."""
    rows, tasks = [], {column.task for column in GLUE}
    for key, group in cells[cells["task"].isin(tasks)].groupby(ROW, sort=False):
        values = group.set_index(["task", "metric"])
        last, best = (average(values[f"median_{step}"].to_dict()) for step in ("last", "best"))
        if last is not None:
            own = dict(zip(ROW, key, strict=True)) | {"task": AVERAGE.task, "metric": AVERAGE.metric}
            found = {"median_last": last, "median_best": best, "n": group["n"].min()}
            rows.append(own | found | origin(frame[frame["path"].isin(set().union(*group["paths"]))]))
    return pd.DataFrame(rows, columns=cells.columns)


def contrasts(frame: pd.DataFrame, cells: pd.DataFrame, pairs: Iterable[tuple[Variant, Variant]]) -> pd.DataFrame:
    """The differences of two variants of IncreLoRA at one budget, as in its Table 2: medians, without a spread."""
    own, rows = cells[cells["method"] == "increlora"], []
    for one, other in pairs:
        both = own[own["variant"] == one].merge(own[own["variant"] == other], on=["method", "budget", "task", "metric"])
        for row in both.to_dict("records"):
            name = minus(row["name_x"], row["name_y"])
            rows.append({
                "name": name, "title": title_of("increlora", frozenset(), name), "variant": (one, other),
                **{key: row[key] for key in ("method", "budget", "task", "metric")},
                **{key: row[f"{key}_x"] - row[f"{key}_y"] for key in ("median_last", "median_best")},
                **origin(frame[frame["path"].isin(row["paths_x"] | row["paths_y"])]),
                "n": min(row["n_x"], row["n_y"]),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=cells.columns)


def minus(one: str, other: str) -> str:
    """Name the difference of two variants."""
    return f"({one or 'as published'}) minus ({other})"
