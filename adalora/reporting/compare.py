"""Compare two methods, or two commits, over all common cells: paired differences with intervals."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import pandas as pd
import yaml
from rich.table import Table
from rich.text import Text

from adalora.errors import UserError
from adalora.options import nearest
from adalora.reporting.columns import title_of
from adalora.reporting.frame import SETTING, heads
from adalora.reporting.pairs import single
from adalora.reporting.tables import probability, span
from adalora.statistics.paired import ALPHA, Paired, Scores, holm, paired, paired_over_tasks
from adalora.variant import Variant, variant

CELL = ["model", "task", "budget", *SETTING, "rows"]


@dataclass(frozen=True)
class Side:
    """One side: a method, with the options of a variant, or all runs of a commit."""

    name: str
    method: str | None = None
    variant: Variant = frozenset()
    commit: str | None = None

    def of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Its runs."""
        if self.commit is not None:
            return runs[runs["commit"].str.startswith(self.commit)]
        return runs[(runs["method"] == self.method) & runs["own"].map(lambda own: own == self.variant)]


@dataclass(frozen=True)
class Row:
    """One cell: the first side minus the second in points of the headline metric at the last step."""

    model: str
    cell: str
    metric: str
    one: float
    other: float
    found: Paired
    p: float | None
    notes: Sequence[str]
    scores: tuple[Scores, Scores]


def side_of(text: str, methods: set[str]) -> Side:
    """Parse a side: `adalora`, `adalora importance=magnitude`, or at least seven digits of a commit.

    Args:
        text: what the user gave.
        methods: those of the runs.

    Raises:
        UserError: it is neither a method nor a commit.
    """
    method, _, rest = text.partition(" ")
    if method in methods:
        given = re.findall(r"([\w.]+)=(\[[^\]]*\]|[^,\s]+)", rest)
        return Side(text, method, variant({key: yaml.safe_load(value) for key, value in given}))
    if re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", text):
        return Side(text, commit=text)
    allowed = nearest(method, methods)
    raise UserError(f"{text!r}: give a method ({allowed}), with options of its variant, or a commit's first 7 digits")


def compare(frame: pd.DataFrame, a: str, b: str) -> tuple[list[Row], list[str]]:
    """Compare all common cells, and return a line for each cell that only one side has.

    Raises:
        UserError: one side is a method and the other a commit, or there is no common cell.
    """
    runs = heads(frame)
    one, other = (side_of(text, set(runs["method"])) for text in (a, b))
    if (one.commit is None) != (other.commit is None):
        raise UserError(f"A={a} and B={b}: give two methods or two commits")
    by = CELL if one.commit is None else [*CELL, "method", "own"]
    sides = [dict(tuple(side.of(runs).groupby(by, dropna=False))) for side in (one, other)]
    rows, alone = [], []
    for cell in sorted(sides[0].keys() | sides[1].keys(), key=lambda cell: tuple(map(str, cell))):
        first, second = (side.get(cell) for side in sides)
        if first is None or second is None:
            alone.append(f"{cell_name(cell)}: only {b if first is None else a}")
        elif (row := row_of(cell, first, second)) is not None:
            rows.append(row)
        else:
            seeds = " and ".join(", ".join(map(str, sorted(side["seed"].unique()))) for side in (first, second))
            alone.append(f"{cell_name(cell)}: no seed in common ({seeds})")
    if not rows:
        told = apart(one.of(runs), other.of(runs))
        raise UserError(f"{a} and {b} have no seed of a cell in common: {told}")
    ps = iter(holm([row.found.p for row in rows if row.found.p is not None]))
    return [replace(row, p=None if row.found.p is None else next(ps)) for row in rows], alone


def apart(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """What differs between two sides without a common cell: of each kind that never agrees, the values of both."""
    if one.empty or other.empty:
        return f"{len(one)} and {len(other)} runs"
    kinds = [*CELL, "seed"]
    values = {kind: [sorted(set(side[kind].map(str))) for side in (one, other)] for kind in kinds}
    different = {kind: both for kind, both in values.items() if not set(both[0]) & set(both[1])}
    told = [f"{kind} {', '.join(first)} and {', '.join(second)}" for kind, (first, second) in different.items()]
    return "; ".join(told) or "every task, budget and setting of one has other seeds, or another setting, in the other"


def row_of(cell: tuple[Any, ...], one: pd.DataFrame, other: pd.DataFrame) -> Row | None:
    """The row of a cell; None if the sides have no common seed."""
    first, second = single(one), single(other)
    seeds = list(first.runs.index.intersection(second.runs.index))
    if not seeds:
        return None
    scores = first.runs.loc[seeds, "last"].to_dict(), second.runs.loc[seeds, "last"].to_dict()
    found = paired(*scores)
    assert found is not None
    return Row(
        cell[0], cell_name(cell), first.runs["headline"].iloc[0], mean(scores[0].values()), mean(scores[1].values()),
        found, None, [*first.notes, *second.notes], scores,
    )  # fmt: skip


def cell_name(cell: tuple[Any, ...]) -> str:
    """A cell's name: task, budget, and what else distinguishes it."""
    _, task, budget, length, precision, *_, rows = cell[:9]
    method = title_of(*cell[9:]) if len(cell) > 9 else ""
    return ", ".join(filter(None, [task, method, "" if budget == "any" else budget, length, precision, rows]))


def comparison_table(rows: Sequence[Row], a: str, b: str) -> Table:
    """A table for the terminal, with the mean over the cells of each backbone."""
    few = f"too few: whatever they are, so few seeds can't reach p = {ALPHA}"
    title = Text(f"{a} - {b}, points of the headline metric at the last step")
    table = Table(box=None, title=title, caption=few, caption_justify="left")
    for name in ("cell", "metric", a, b, "difference", "95 %", "n", "p (Holm)", "least p"):
        table.add_column(Text(name), justify="left" if name in ("cell", "metric", "least p") else "right")
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        table.add_row(Text(model, style="bold"))
        for row in mine:
            decided = row.p is not None and row.p <= ALPHA
            table.add_row(
                Text(row.cell), row.metric, f"{row.one:.2f}", f"{row.other:.2f}", *numbers(row.found, row.p),
                style=None if decided else "dim",
            )  # fmt: skip
            for note in row.notes:
                table.add_row(Text(f"  {note}"))
        whole = paired_over_tasks([row.scores for row in mine])
        if len(mine) > 1 and whole is not None:
            table.add_row(f"mean of {len(mine)} cells", "", "", "", *numbers(whole, whole.p), style="bold")
    return table


def numbers(found: Paired, p: float | None) -> list[str]:
    """The columns of a difference."""
    few = found.smallest_p is None or found.smallest_p > ALPHA
    least = ", ".join(filter(None, [probability(found.smallest_p), "too few" if few else ""]))
    return [f"{found.mean:+.2f}", span(found.interval), str(found.n), probability(p), least]
