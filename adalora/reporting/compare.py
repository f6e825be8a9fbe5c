"""Compare two methods, or two commits, over all common cells: paired differences with intervals."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

import pandas as pd
import yaml

from adalora.errors import UserError
from adalora.options import as_number
from adalora.records.published import decimals
from adalora.records.variant import Variant, describe, hashable, variant
from adalora.reporting.columns import title_of
from adalora.reporting.frame import SETTING, heads
from adalora.reporting.pairs import pair, settings
from adalora.reporting.tables import grid, number, probability, signed, span
from adalora.statistics.paired import ALPHA, holm, paired, paired_over_tasks

CELL = ["model", "task", "budget", *SETTING, "rows", "shared"]
KIND = ["model", "length", "precision", "weights", "rows", "shared", "digits", "direction"]  # equal in a mean's cells


@dataclass(frozen=True)
class Selection:
    """One side: a method, with the options of a variant, or all runs of a commit."""

    name: str
    method: str | None = None
    variant: Variant = frozenset()
    commit: str | None = None

    def of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Its runs, with a column `shared` of the options that both sides must have in common: those that differ from
        their published or default values, except the method's own and those given. For a commit `shared` is empty: all
        of its runs are compared."""
        if self.commit is not None:
            digits, dirty, _ = self.commit.partition("-dirty")
            mine = runs["commit"].str.startswith(digits) & (runs["commit"].str.endswith("-dirty") == bool(dirty))
            return runs[mine].assign(shared="")
        given = {key for key, _ in self.variant}
        runs = runs[runs["method"] == self.method]
        shared = [
            frozenset(o for o in own if o[0] not in given and not o[0].startswith("method.")) for own in runs["own"]
        ]
        mine = [  # an option that is as by default can be given, too
            own - rest <= self.variant <= own | {(key, hashable(value)) for key, value in options.items()}
            for own, rest, options in zip(runs["own"], shared, runs["options"], strict=True)
        ]
        return runs.assign(shared=list(map(describe, shared)))[mine]


def selection(text: str, methods: set[str]) -> Selection:
    """Parse a side: `adalora`, `adalora importance=magnitude training.lr=1e-2`, or at least seven digits of a commit.

    Args:
        text: what the user gave.
        methods: those of the runs.

    Raises:
        UserError: it is neither a method nor a commit.
    """
    method, _, rest = text.partition(" ")
    if method in methods:
        pattern = r"([\w.]+)=(\[[^\]]*\]|[^,\s]+)"
        try:
            given = {
                key: yaml.safe_load(value) if (number := as_number(value)) is None else number
                for key, value in re.findall(pattern, rest)
            }
            if re.sub(pattern, "", rest).strip(" ,"):
                raise ValueError
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"{text!r}: give options as '{method} importance=magnitude, init_rank=2'") from error
        return Selection(text, method, variant(given))
    if re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", text):
        return Selection(text, commit=text)
    allowed = ", ".join(methods)
    if not text:
        raise UserError(f"give both sides, as A=METHOD B=METHOD: the methods are {allowed}")
    raise UserError(f"{text!r}: give a method ({allowed}), with options of its variant, or a commit's first 7 digits")


def compare(frame: pd.DataFrame, a: str, b: str) -> tuple[pd.DataFrame, list[str]]:
    """Compare all common cells: the first side minus the second by the headline metric at the last step, in points
    (bits per byte: in bits).

    Returns:
        One row per cell, and one for the mean over the cells of each `KIND`: `model`, `cell`, `metric`, `digits`
        (decimals), the means `one` and `other`, `found` (`Paired`), `p` (Holm's) and `notes`. Also a line for each cell
        that can't be compared, and for each mean that can't be taken.

    Raises:
        UserError: one side is a method and the other a commit, or there is no common cell.
    """
    runs = heads(frame)
    if runs.empty:
        raise UserError("there is no finished run to compare: run train.py first, or give folders of runs with --runs")
    one, other = (selection(text, set(runs["method"])) for text in (a, b))
    if (one.commit is None) != (other.commit is None):
        raise UserError(f"A={a} and B={b}: give two methods or two commits")
    by = CELL if one.commit is None else [*CELL, "method", "own"]
    sides = [dict(tuple(side.of(runs).groupby(by))) for side in (one, other)]
    names = cell_names(sides[0] | sides[1])
    rows, alone = [], []
    for cell in sorted(sides[0].keys() | sides[1].keys(), key=lambda cell: tuple(map(str, cell))):
        if any(cell not in side for side in sides):
            alone.append(f"{names[cell]}: only {a if cell in sides[0] else b}")
            continue
        first, second, notes = pair(*(settings(side[cell]) for side in sides))
        if first.runs.empty:
            seeds = " and ".join(", ".join(map(str, sorted(set(side[cell]["seed"])))) for side in sides)
            alone.append(f"{names[cell]}: {'; '.join(notes) or f'no seed in common, {seeds}'}")
            continue
        scores = [side.runs["last"].to_dict() for side in (first, second)]
        rows.append(dict(zip(by, cell, strict=True)) | {
            "cell": names[cell], "metric": (name := first.runs["headline"].iloc[0]),
            "digits": decimals(name), "direction": first.runs["result"].iloc[0].task["direction"],
            "one": mean(scores[0].values()), "other": mean(scores[1].values()),
            "found": paired(*scores), "notes": notes, "scores": scores,
        })  # fmt: skip
    if not rows:
        reason = "; ".join(alone) if sides[0].keys() & sides[1].keys() else apart(one.of(runs), other.of(runs))
        raise UserError(f"{a} and {b} have no seed of a cell in common: {reason}")
    ps = iter(holm([row["found"].p for row in rows if row["found"].p is not None]))
    cells = pd.DataFrame([row | {"p": row["found"].p and next(ps)} for row in rows])
    means = []
    for _, mine in cells.groupby(KIND, sort=False):
        first, once = mine.iloc[0], mine.drop_duplicates(["task", "budget", *by[len(CELL) :]])
        name = ", ".join(filter(None, [first["length"], first["precision"], first["shared"], first["rows"]]))
        if len(once) > 1 and len(once) < len(mine):
            again = ", ".join(mine.loc[mine.index.difference(once.index), "task"].unique())
            alone.append(f"the mean, {name}: of {again} there are several data sets: give their runs alone")
        elif len(once) > 1 and (whole := paired_over_tasks(mine["scores"].tolist())) is not None:
            means.append({
                "model": first["model"], "cell": f"mean of {len(mine)} cells, {name}", "metric": "",
                "digits": first["digits"], "found": whole, "p": whole.p,
                "notes": ["its p isn't corrected: it is one test"],
            })  # fmt: skip
    found = pd.concat([cells, pd.DataFrame(means)])
    return found[["model", "cell", "metric", "digits", "one", "other", "found", "p", "notes"]], alone


def apart(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """What differs between two sides without a common cell: of each kind that never agrees, the values of both."""
    if one.empty or other.empty:
        return f"{len(one)} and {len(other)} runs"
    kinds = [*CELL, "seed"]
    values = {kind: [sorted(set(side[kind].map(str))) for side in (one, other)] for kind in kinds}
    different = {kind: both for kind, both in values.items() if not set(both[0]) & set(both[1])}
    reason = [f"{kind} {', '.join(first)} and {', '.join(second)}" for kind, (first, second) in different.items()]
    return (
        "; ".join(reason) or "every task, budget and setting of one has other seeds, or another setting, in the other"
    )


def cell_name(cell: tuple[Any, ...]) -> str:
    """A cell's name: task, budget, and what else distinguishes it."""
    count = len(CELL)
    _, task, budget, length, precision, *_, rows, shared = cell[:count]
    method = title_of(*cell[count:]) if len(cell) > count else ""
    return ", ".join(filter(None, [task, method, "" if budget == "any" else budget, length, precision, shared, rows]))


def cell_names(cells: Mapping[tuple[Any, ...], pd.DataFrame]) -> dict[tuple[Any, ...], str]:
    """The names of some cells, with their data where a backbone's would be the same."""
    names = {cell: cell_name(cell) for cell in cells}
    count = Counter((cell[0], name) for cell, name in names.items())
    for cell in cells:
        if count[cell[0], names[cell]] > 1:
            rows = ", ".join(f"{split} {n:,}" for split, n in cells[cell]["result"].iloc[0].task["rows"].items())
            names[cell] += f", {rows} (data {cell[CELL.index('data')]})"
    return names


def comparison_text(rows: pd.DataFrame, a: str, b: str) -> str:
    """The comparison for a terminal, a block for each backbone."""
    lines = []
    for model, mine in rows.groupby("model", sort=False):
        lines.append([model, *[""] * 8])
        for row in mine.itertuples():
            digits = row.digits
            few = row.found.smallest_p is None or row.found.smallest_p > ALPHA
            lines.append([
                row.cell, row.metric, number(row.one, f".{digits}f"), number(row.other, f".{digits}f"),
                signed(row.found.mean, digits), span(row.found.interval, digits), str(row.found.n), probability(row.p),
                ", ".join(filter(None, [probability(row.found.smallest_p), "too few" if few else ""])),
            ])  # fmt: skip
            lines += [[f"- {note}", *[""] * 8] for note in row.notes]
    columns = ["cell", "metric", a, b, "difference", "95 %", "n", "p (Holm)", "least p"]
    text = grid(pd.DataFrame(lines, columns=columns), "simple")
    few = f"too few: whatever they are, so few seeds can't reach p = {ALPHA}"
    return f"{a} - {b}, by the headline metric at the last step, in points (bits per byte: in bits)\n\n{text}\n\n{few}"
