"""What a table's rows and cells hold: runs by method, budget and task, summarised over seeds.

docs/deviations.md: D-median.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from adalora.reporting.paper import METHODS, Published
from adalora.reporting.results import Run, budget_of, variants


class Column(NamedTuple):
    """A task's metric in a table."""

    task: str
    metric: str
    title: str


GLUE = (
    Column("mnli", "accuracy_matched", "MNLI m"),
    Column("mnli", "accuracy_mismatched", "MNLI mm"),
    Column("sst2", "accuracy", "SST-2"),
    Column("cola", "matthews", "CoLA"),
    Column("qqp", "accuracy", "QQP acc"),
    Column("qqp", "f1", "QQP F1"),
    Column("qnli", "accuracy", "QNLI"),
    Column("rte", "accuracy", "RTE"),
    Column("mrpc", "accuracy", "MRPC"),
    Column("stsb", "pearson_spearman", "STS-B"),
)
AVERAGE = Column("average", "average", "Ave.")
TASK_SETS = {
    "GLUE": (*GLUE, AVERAGE),
    "SQuAD": tuple(
        Column(f"squad_v{v}", metric, f"v{title} {short}")
        for v, title in ((1, "1.1"), (2, "2.0"))
        for metric, short in (("exact_match", "EM"), ("f1", "F1"))
    ),
    "Summarization": tuple(
        Column(task, metric, f"{title} {short}")
        for task, title in (("xsum", "XSum"), ("cnn_dailymail", "CNN/DM"))
        for metric, short in (("rouge1", "R-1"), ("rouge2", "R-2"), ("rougeL", "R-L"), ("rougeLsum", "R-Lsum"))
    ),
    "R8": (Column("r8", "accuracy", "R8 accuracy"), Column("r8", "macro_f1", "R8 macro F1")),
}
SET_OF = {column.task: name for name, columns in TASK_SETS.items() for column in columns}
PAPERS = {method: title for title, method in METHODS.items()}  # in the order of the paper's Table 1
TITLES = PAPERS | {"houlsby": "HAdapter (Houlsby)", "pfeiffer": "PAdapter (Pfeiffer)"}
BUDGETS = (
    "any", "1.2M", "0.6M", "0.3M", "0.65%", "0.32%", "0.16%", "0.08%", "2.20%", "1.10%", "0.26%", "0.13%", "37K", "7K",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One metric in percent over the seeds; min, max and std (of a sample) are of the last step's values."""

    last: float
    best: float
    n: int
    low: float
    high: float
    std: float | None  # None for one seed
    runs: Sequence[Run] = field(repr=False)


@dataclass(frozen=True)
class Row:
    """A method at a budget: its runs by task."""

    method: str
    budget: str
    variant: str
    runs: Mapping[str, Sequence[Run]]

    def cell(self, column: Column) -> Cell | None:
        """The summary of a column, or None where nothing ran."""
        if column == AVERAGE:
            return self.averaged()
        runs = [run for run in self.runs.get(column.task, ()) if {column.metric} <= run["last"].keys() & run["best"]]
        if not runs:
            return None
        last = [100 * run["last"][column.metric] for run in runs]
        best = [100 * run["best"][column.metric] for run in runs]
        std = statistics.stdev(last) if len(runs) > 1 else None
        return Cell(statistics.median(last), statistics.median(best), len(runs), min(last), max(last), std, runs)

    def averaged(self) -> Cell | None:
        """The average of the medians, once all eight tasks are there; n is the least of the tasks'."""
        cells = {column: self.cell(column) for column in GLUE}
        last = average({column[:2]: cell.last for column, cell in cells.items() if cell})
        best = average({column[:2]: cell.best for column, cell in cells.items() if cell})
        if last is None or best is None:
            return None
        n = min(cell.n for cell in cells.values() if cell)
        return Cell(last, best, n, last, last, None, self.all_runs())

    def all_runs(self) -> list[Run]:
        """The runs of all tasks."""
        return [run for runs in self.runs.values() for run in runs]


@dataclass(frozen=True)
class Section:
    """The rows of one table."""

    title: str
    model: str
    columns: tuple[Column, ...]
    comparable: bool
    subset: bool
    rows: list[Row]

    def all_runs(self) -> list[Run]:
        """The runs of all rows."""
        return [run for row in self.rows for run in row.all_runs()]


def average(values: Mapping[tuple[str, str], float]) -> float | None:
    """The paper's average: over the eight tasks, MNLI's and QQP's pairs averaged first; None unless all are there.

    Args:
        values: by (task, metric).
    """
    if any(column[:2] not in values for column in GLUE):
        return None
    tasks = dict.fromkeys(column.task for column in GLUE)
    return statistics.mean(
        statistics.mean(values[column[:2]] for column in GLUE if column.task == task) for task in tasks
    )


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """The runs of one table sorted into rows, the rows in the paper's order."""
    cells: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        cells[run["method"]["name"], budget_of(run), run["task"]["name"]].append(run)
    rows: dict[tuple[str, str, str], dict[str, list[Run]]] = defaultdict(dict)
    for (method, budget, task), group in cells.items():
        for variant, same in variants(group).items():
            rows[method, budget, variant][task] = same
    return sorted((Row(*key, tasks) for key, tasks in rows.items()), key=position)


def position(row: Row) -> tuple[bool, bool, int, str, int, str, str]:
    """Table 1's rows first, then other budgets of its methods, then other methods."""
    table_1 = BUDGETS[:4]
    methods = list(PAPERS)
    place = methods.index(row.method) if row.method in methods else len(methods)
    budget = BUDGETS.index(row.budget) if row.budget in BUDGETS else len(BUDGETS)
    return row.method not in methods, row.budget not in table_1, budget, row.budget, place, row.method, row.variant


def difference(ours: Cell | None, theirs: Published | None) -> float | None:
    """Points that our last step is above the paper."""
    return ours.last - theirs.value if ours and theirs else None


def commits(runs: Iterable[Run]) -> list[str]:
    """The code the runs were of."""
    return sorted({run["commit"] or "unknown (no checkout)" for run in runs})
