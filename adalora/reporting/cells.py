"""The rows and cells of tables: runs by method, budget and task, summarised over seeds.

docs/deviations.md: D-median.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from adalora.published import ROWS, Difference, Key, Published, scores_of
from adalora.reporting.results import Run, budget_of
from adalora.reporting.variants import variants
from adalora.statistics.seeds import Interval, Summary, summary
from adalora.variant import Variant


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
}
SET_OF = {column.task: name for name, columns in TASK_SETS.items() for column in columns}
TABLE_1 = ("Full FT", "BitFit", "HAdapter", "PAdapter", "LoRA", "AdaLoRA")  # in the paper's order
PAPERS = {ROWS[title][0]: title for title in TABLE_1}
TITLES = PAPERS | {"increlora": "IncreLoRA", "houlsby": "HAdapter (Houlsby)", "pfeiffer": "PAdapter (Pfeiffer)"}
BUDGETS = (
    "any", "1.2M", "0.6M", "0.3M", "0.08%", "2.20%", "1.10%", "0.26%", "0.13%", "37K", "7K",
)  # fmt: skip


summarised = lru_cache(4096)(summary)  # cached: a report uses a cell several times, and the bootstrap is slow


@dataclass(frozen=True)
class Cell:
    """One metric over the seeds: medians of the last and the best step, and summaries of both.

    An average or a difference of two cells has no summaries, because its seeds aren't one sample.
    """

    last: float
    best: float
    n: int
    runs: Sequence[Run] = field(repr=False)
    of_last: Summary | None = None
    of_best: Summary | None = None
    range: tuple[float, float] | None = None  # of the last step

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the last step's values; None for one seed."""
        return self.of_last.std if self.of_last else None

    @property
    def interval(self) -> Interval | None:
        """95 % interval for the mean of the last step."""
        return self.of_last.interval if self.of_last else None


@dataclass(frozen=True)
class Row:
    """A method at a budget: its runs by task.

    `variant` names all differences from other runs and from the published method; `published` only the latter, which
    selects the published numbers to compare with.
    """

    method: str
    budget: str
    variant: str
    published: Variant | Difference
    runs: Mapping[str, Sequence[Run]]

    @property
    def title(self) -> str:
        """The method's name in the paper, and the variant."""
        name = TITLES.get(self.method, self.method)
        return f"{name} [{self.variant}]" if self.variant else name

    def key(self, column: Column) -> Key:
        """The key of its published number."""
        return (*column[:2], self.method, self.budget, self.published)

    def cell(self, column: Column) -> Cell | None:
        """The summary for a column; None if nothing was run."""
        if column == AVERAGE:
            return self.averaged()
        runs = self.runs.get(column.task, ())
        numbers = [[numbers_of(run, step).get(column.metric) for step in ("last", "best")] for run in runs]
        whole = [(run, *pair) for run, pair in zip(runs, numbers, strict=True) if None not in pair]
        if not whole:
            return None
        runs, last, best = zip(*whole, strict=True)
        of_last, of_best = summarised(last), summarised(best)
        return Cell(of_last.median, of_best.median, len(runs), runs, of_last, of_best, (min(last), max(last)))

    def averaged(self) -> Cell | None:
        """The average of the medians if all eight tasks were run; n is the smallest of the tasks'."""
        cells = {column: self.cell(column) for column in GLUE}
        last = average({column[:2]: cell.last for column, cell in cells.items() if cell})
        best = average({column[:2]: cell.best for column, cell in cells.items() if cell})
        if last is None or best is None:
            return None
        n = min(cell.n for cell in cells.values() if cell)
        return Cell(last, best, n, self.all_runs())

    def all_runs(self) -> list[Run]:
        """The runs of all tasks."""
        return [run for runs in self.runs.values() for run in runs]


@dataclass(frozen=True)
class Section:
    """A table's rows; `beside` has the numbers of `source` that belong to it, None if none apply."""

    title: str
    model: str
    columns: tuple[Column, ...]
    rows: list[Row]
    beside: Mapping[Key, Published] | None = None
    comparable: bool = True
    subset: bool | None = False  # None: the official row counts aren't known
    source: str = "paper"
    scored: bool = True  # False for memory and time, which have no best step

    def all_runs(self) -> list[Run]:
        """The runs of all rows, without duplicates."""
        return list({id(run): run for row in self.rows for run in row.all_runs()}.values())


@dataclass(frozen=True)
class Contrast(Row):
    """The difference of two rows, this one minus `less`, as in IncreLoRA's Table 2."""

    less: Row

    def cell(self, column: Column) -> Cell | None:
        """The difference of the medians; n is the smaller of the two."""
        one, other = super().cell(column), self.less.cell(column)
        if one is None or other is None:
            return None
        last, best = one.last - other.last, one.best - other.best
        return Cell(last, best, min(one.n, other.n), [*one.runs, *other.runs])

    def all_runs(self) -> list[Run]:
        """The runs of both."""
        return [*super().all_runs(), *self.less.all_runs()]


def numbers_of(run: Run, step: str) -> dict[str, float]:
    """Scores, peak memory in GB, and minutes per epoch including evaluations (Table 15)."""
    training = run["training"]
    epochs = {} if training["max_steps"] else {"minutes_per_epoch": run["seconds"] / 60 / training["epochs"]}
    return scores_of(run, step) | {"peak_memory_gb": run["peak_memory_mb"] / 1024} | epochs


def average(values: Mapping[tuple[str, str], float]) -> float | None:
    """The paper's average over the eight tasks, with the pairs of MNLI and QQP averaged first; None unless all are
    given.

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
    """Group the runs of a table into rows, in the paper's order."""
    cells: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        cells[run["method"]["name"], budget_of(run), run["task"]["name"]].append(run)
    rows: dict[tuple[str, str, str, Variant], dict[str, list[Run]]] = defaultdict(dict)
    for (method, budget, task), group in cells.items():
        for (own, name), same in variants(group).items():
            rows[method, budget, name, own][task] = same
    return sorted((Row(*place, tasks) for place, tasks in rows.items()), key=position)


def position(row: Row) -> tuple[bool, bool, int, str, int, str, str]:
    """Sort key: Table 1's rows, then other budgets of its methods, then other methods."""
    table_1 = BUDGETS[:4]
    methods = list(PAPERS)
    place = methods.index(row.method) if row.method in methods else len(methods)
    budget = BUDGETS.index(row.budget) if row.budget in BUDGETS else len(BUDGETS)
    return row.method not in methods, row.budget not in table_1, budget, row.budget, place, row.method, row.variant


def difference(ours: Cell | None, theirs: Published | None) -> float | None:
    """Our last step minus the paper's number, in points."""
    return ours.last - theirs.value if ours and theirs else None


def commits(runs: Iterable[Run]) -> list[str]:
    """The commits of the runs."""
    return sorted({run["commit"] or "unknown (no checkout)" for run in runs})
