"""Further tables of the report: methods over tasks, cost of cells, and commands to rerun them."""

import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from adalora.reporting.cells import Row, Section, commits
from adalora.reporting.report.figures import headlines, row_name
from adalora.reporting.results import Run, folder_of
from adalora.resultfile import portable
from adalora.statistics.over_tasks import Estimate, improvement, interquartile_means, mean_ranks


@dataclass(frozen=True)
class Standing:
    """A method compared with others over the same tasks."""

    name: str
    rank: Estimate
    middle: Estimate  # interquartile mean
    above: Estimate | None  # probability that `reference` scores above it; None for itself


@dataclass(frozen=True)
class Standings:
    """The methods at one budget, over their common tasks."""

    title: str
    tasks: Sequence[str]
    reference: str
    rows: Sequence[Standing]


def standings(section: Section) -> list[Standings]:
    """One table per budget, if at least two methods have at least two tasks in common."""
    columns = {column.task: column for column in headlines(section)}
    sized = sorted((row for row in section.rows if row.runs), key=lambda row: row.budget)
    tables = []
    for budget, group in groupby(sized, key=lambda row: row.budget):
        rows = list(group)
        tasks = [task for task in columns if all(row.cell(columns[task]) for row in rows)]
        if len(rows) < 2 or len(tasks) < 2:
            continue
        table = {row_name(row): {task: scores(row, columns[task]) for task in tasks} for row in rows}
        ranks, middles = mean_ranks(table), interquartile_means(table)
        reference = next((row_name(row) for row in rows if row.method == "adalora"), row_name(rows[0]))
        lines = [
            Standing(
                name, ranks[name], middles[name],
                None if name == reference else improvement(table, reference, name),
            )
            for name in table
        ]  # fmt: skip
        lines.sort(key=lambda line: line.rank.value)
        tables.append(Standings(f"{section.title}, {budget}", tasks, reference, lines))
    return tables


def scores(row: Row, column: tuple[str, str, str]) -> list[float]:
    """The scores of a row's seeds, in percent."""
    return [100 * run["last"][column[1]] for run in row.runs[column[0]] if column[1] in run["last"]]


@dataclass(frozen=True)
class Took:
    """The cost of a cell, and the commands to rerun it."""

    name: str
    task: str
    model: str
    peak: int
    kept: int
    head: int
    seconds: float  # median per run
    per_step: float
    memory: int  # median peak memory in MiB
    hardware: str
    commands: Sequence[str]  # one per seed
    folders: Sequence[str]
    commits: Sequence[str]


def took(section: Section) -> list[Took]:
    """Every cell of a section."""
    return [took_of(row, task, section.model, runs) for row in section.rows for task, runs in row.runs.items()]


def took_of(row: Row, task: str, model: str, runs: Sequence[Run]) -> Took:
    """One cell."""
    parameters = [run["parameters"] for run in runs]
    middle = {key: round(statistics.median(each[key] for each in parameters)) for key in ("peak", "kept", "head")}
    seconds = statistics.median(run["seconds"] for run in runs)
    steps = statistics.median(run["training"]["total_steps"] for run in runs)
    machines = sorted({str(run["hardware"].get("name", "unknown")) for run in runs})
    return Took(
        row_name(row), task, model, **middle, seconds=seconds, per_step=seconds / max(1, steps),
        memory=round(statistics.median(run["peak_memory_mb"] for run in runs)), hardware=", ".join(machines),
        commands=[rerun(run) for run in runs], folders=[folder_of(run) for run in runs], commits=commits(runs),
    )  # fmt: skip


def rerun(run: Run) -> str:
    """The command that repeats a run, without machine-dependent options."""
    return f"python train.py {shlex.join(portable(run['command'])[1:])}"
