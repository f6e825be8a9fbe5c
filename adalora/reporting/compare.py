"""Compare two methods, or two commits, over all common cells: paired differences with intervals."""

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from adalora.errors import UserError
from adalora.options import nearest
from adalora.published import scores_of
from adalora.reporting.claimpage import probability, span
from adalora.reporting.pairs import one_setting
from adalora.reporting.results import Run, budget_of
from adalora.reporting.variants import SETTING, options
from adalora.statistics.paired import Paired, Scores, holm, paired, paired_over_tasks
from adalora.variant import Variant, describe, variant, variant_of


@dataclass(frozen=True)
class Side:
    """One side: a method, with the options of a variant, or all runs of a commit."""

    name: str
    method: str | None = None
    variant: Variant = frozenset()
    commit: str | None = None


@dataclass(frozen=True)
class Row:
    """One cell: `one` minus `other` in points of the headline metric at the last step."""

    model: str
    cell: str
    metric: str
    one: float
    other: float
    found: Paired
    p: float | None
    notes: tuple[str, ...]
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


def compare(runs: Sequence[Run], a: str, b: str) -> tuple[list[Row], list[str]]:
    """Compare all common cells, and return a line for each cell that only one side has.

    Raises:
        UserError: one side is a method and the other a commit, or there is no common cell.
    """
    methods = {run["method"]["name"] for run in runs}
    one, other = side_of(a, methods), side_of(b, methods)
    if (one.commit is None) != (other.commit is None):
        raise UserError(f"A={a} and B={b}: give two methods or two commits")
    cells: dict[tuple[Any, ...], tuple[list[Run], list[Run]]] = defaultdict(lambda: ([], []))
    for run in runs:
        chosen, own = options(run), variant_of(run, length=False)
        place = (run["model"]["title"], run["task"]["name"], budget_of(run), *(chosen[name] for name in SETTING))
        for number, side in enumerate((one, other)):
            if side.commit is not None and (run["commit"] or "").startswith(side.commit):
                cells[(*place, run["method"]["name"], describe(own))][number].append(run)
            elif side.method == run["method"]["name"] and side.variant == own:
                cells[place][number].append(run)
    rows = [row for place, pair in sorted(cells.items()) if (row := row_of(place, *pair)) is not None]
    if not rows:
        counts = " and ".join(f"{len({id(r) for p in cells.values() for r in p[i]})} of {s.name}"
                              for i, s in enumerate((one, other)))  # fmt: skip
        raise UserError(f"{a} and {b} have no seed of a cell in common ({counts} among {len(runs)} runs)")
    tested = [row.found.p for row in rows if row.found.p is not None]
    ps = iter(holm(tested))
    rows = [Row(**(vars(row) | {"p": None if row.found.p is None else next(ps)})) for row in rows]
    alone = [
        f"{cell_name(place)}: only {(a, b)[not pair[0]]}" for place, pair in sorted(cells.items()) if not all(pair)
    ]
    return rows, alone


def row_of(place: tuple[Any, ...], first: Sequence[Run], second: Sequence[Run]) -> Row | None:
    """The row of a cell; None if the sides have no common seed."""
    (x, told), (y, told_too) = one_setting(first), one_setting(second)
    both = sorted(x.keys() & y.keys())
    if not both:
        return None
    metric = x[both[0]]["task"]["headline"]
    one, other = ({seed: scores_of(side[seed], "last")[metric] for seed in both} for side in (x, y))
    found = paired(one, other)
    assert found is not None
    means = statistics.mean(one.values()), statistics.mean(other.values())
    return Row(place[0], cell_name(place), metric, *means, found, None, (*told, *told_too), (one, other))


def cell_name(place: tuple[Any, ...]) -> str:
    """A cell's name: task, budget, and what else distinguishes it."""
    _, task, budget, length, precision, *_ = place
    method = " ".join(filter(None, place[8:]))
    return ", ".join(filter(None, [task, method, "" if budget == "any" else budget, length, precision]))


def comparison_table(rows: Sequence[Row], a: str, b: str) -> Table:
    """A table for the terminal, with the mean over the cells of each backbone."""
    table = Table(box=None, title=Text(f"{a} - {b}, points of the headline metric at the last step"))
    for name in ("cell", "metric", a, b, "difference", "95 %", "n", "p (Holm)", "least p"):
        table.add_column(Text(name), justify="left" if name in ("cell", "metric") else "right")
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        table.add_row(Text(model, style="bold"))
        for row in mine:
            table.add_row(
                Text(row.cell), row.metric, f"{row.one:.2f}", f"{row.other:.2f}", *numbers(row.found, row.p),
                style=None if row.p is not None and row.p <= 0.05 else "dim",
            )  # fmt: skip
            for note in row.notes:
                table.add_row(Text(f"  {note}"))
        whole = paired_over_tasks([row.scores for row in mine])
        if len(mine) > 1 and whole is not None:
            table.add_row(f"mean of {len(mine)} cells", "", "", "", *numbers(whole, whole.p), style="bold")
    return table


def numbers(found: Paired, p: float | None) -> list[str]:
    """The columns of a difference."""
    return [f"{found.mean:+.2f}", span(found.interval), str(found.n), probability(p), probability(found.smallest_p)]
