"""The report's figures: small SVGs with captions."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adalora.reporting.cells import TITLES, Column, Row, Section
from adalora.reporting.report import charts
from adalora.reporting.report.series import Lines, logged, mean_ranks, over_seeds, ranks_by_map, read_log
from adalora.reporting.results import Run
from adalora.resultfile import damaged


@dataclass(frozen=True)
class Figure:
    """A figure; the caption says what it shows and for which runs."""

    svg: str
    caption: str


class Logs:
    """The runs' logs, each read once; `faults` lists those that are missing or damaged."""

    def __init__(self, folders: Sequence[tuple[Path, Run]]) -> None:
        self.folders = {id(run): folder for folder, run in folders}
        self.read: dict[Path, Lines] = {}
        self.faults: list[str] = []

    def of(self, runs: Sequence[Run], name: str) -> list[Lines]:
        """The lines of log `name` of each run; runs without a readable file are skipped."""
        found = []
        for run in runs:
            path = self.folders[id(run)] / name
            if run.get("evaluations"):  # a record has no other log
                found += [run["evaluations"]] if name == "metrics.jsonl" else []
                continue
            if path not in self.read:
                changed = [f"{path.parent.name}/{name}: {e.reason}" for e in damaged(path.parent, run["files"], [name])]
                self.read[path], fault = ([], changed[0]) if changed else read_log(path)
                self.faults += [fault] if fault else []
            found += [self.read[path]] if self.read[path] else []
        return found


def row_name(row: Row) -> str:
    """A row's name in figures and tables."""
    name = TITLES.get(row.method, row.method) + ("" if row.budget == "any" else f" {row.budget}")
    return f"{name} [{row.variant}]" if row.variant else name


def signs(section: Section, name: Callable[[Row], str]) -> list[str]:
    """The names of all rows that were run; their order determines colours and shapes."""
    return list(dict.fromkeys(name(row) for row in section.rows if row.runs))


def headlines(section: Section) -> list[Column]:
    """The headline column of each task that was run."""
    found: dict[str, Column] = {}
    for row in section.rows:
        for task, runs in row.runs.items():
            metric = runs[0]["task"]["headline"]
            columns = [column for column in section.columns if column[:2] == (task, metric)]
            found.setdefault(task, columns[0] if columns else Column(task, metric, f"{task} {metric}"))
    return list(found.values())


def of_seeds(count: int) -> str:
    """In words."""
    return "1 seed" if count == 1 else f"mean of {count} seeds, band from the lowest to the highest"


def learning_curves(section: Section, logs: Logs) -> Iterator[Figure]:
    """The headline metric over steps: one figure per task, one line per row."""
    for column in headlines(section):
        rows = [row for row in section.rows if column.task in row.runs]
        points = []
        for row in rows:
            name = row_name(row)
            lines = logs.of(row.runs[column.task], "metrics.jsonl")
            key = f"eval/{column.metric}"
            points += [{**point, "name": name} for point in over_seeds(lines, logged(key, 100))]
        if points:
            seeds = max(len(row.runs[column.task]) for row in rows)
            label = f"{column.title} over the steps, for {', '.join(map(row_name, rows))}"
            svg = charts.curves(points, signs(section, row_name), f"{column.title}, %", label)
            yield Figure(svg, f"{column.title}, {section.model}; {of_seeds(seeds)}.")


def against_size(section: Section) -> Iterator[Figure]:
    """The headline metric over the kept parameters: one figure per task, one symbol per method."""
    for column in headlines(section):
        points = []
        for row in section.rows:
            cell = row.cell(column)
            if cell is not None:
                kept = statistics.median(run["parameters"]["kept"] for run in cell.runs)
                low, high = cell.interval or (None, None)
                mean = cell.of_last.mean if cell.of_last else cell.last
                points.append({"size": kept, "name": row.title, "mean": mean, "low": low, "high": high, "kind": "ours"})
                theirs = (section.beside or {}).get(row.key(column))
                if theirs is not None:
                    points.append({"size": kept, "name": row.title, "mean": theirs.value, "kind": "paper"})
        if points:
            names = ", ".join(dict.fromkeys(str(point["name"]) for point in points))
            label = f"{column.title} over the adapter's size, for {names}"
            paper = "; open signs: the paper's" if any(point["kind"] == "paper" for point in points) else ""
            caption = f"{column.title}, {section.model}: mean of the last step with its 95 % interval{paper}."
            yield Figure(
                charts.against_size(points, signs(section, lambda row: row.title), f"{column.title}, %", label), caption
            )


def adaptive(section: Section) -> Iterator[tuple[Row, str, Sequence[Run]]]:
    """The cells whose maps end with different ranks."""
    for row in section.rows:
        for task, runs in row.runs.items():
            if any(len(set(run["ranks"].values())) > 1 for run in runs):
                yield row, task, runs


def rank_maps(section: Section) -> Iterator[Figure]:
    """Realised ranks, layer by map, as in the paper's Figure 3: one figure per cell and stack of layers."""
    for row, task, runs in adaptive(section):
        targets = runs[0]["model"].get("targets", {})
        rows = mean_ranks([run["ranks"] for run in runs], targets)
        for stack in dict.fromkeys(each["stack"] for each in rows):
            mine = [each for each in rows if each["stack"] == stack]
            maps = [name for name in targets if any(each["map"] == name for each in mine)]
            part = f" ({stack})" if len({each["stack"] for each in rows}) > 1 else ""
            mean = "" if len(runs) == 1 else f", mean of {len(runs)} seeds"
            highest = max(mine, key=lambda each: each["rank"])
            label = (
                f"Realised ranks of {row_name(row)} on {task}{part}, the highest {highest['rank']:.3g} "
                f"in layer {highest['layer']}, {highest['map']}"
            )
            yield Figure(charts.heat_map(mine, maps, label), f"{row_name(row)} on {task}{part}, {section.model}{mean}.")


def ranks_over_time(section: Section, logs: Logs) -> Iterator[Figure]:
    """The mean rank of each kind of map over steps: one figure per cell."""
    for row, task, runs in adaptive(section):
        targets: Mapping[str, str] = runs[0]["model"].get("targets", {})
        points = ranks_by_map(logs.of(runs, "ranks.jsonl"), targets)
        if points:
            label = f"Mean rank of each kind of map over the steps, {row_name(row)} on {task}"
            svg = charts.curves(points, list(targets), "mean rank", label)
            yield Figure(svg, f"{row_name(row)} on {task}, {section.model}; {of_seeds(len(runs))}.")


def allocation(section: Section, logs: Logs) -> Iterator[Figure]:
    """The rank budget and the threshold over steps: two figures per task, one line per row."""
    kinds = (("allocation/budget", "total rank"), ("allocation/threshold", "threshold"))
    cells = list(adaptive(section))
    for task in dict.fromkeys(task for _, task, _ in cells):
        mine = [(row, runs) for row, each, runs in cells if each == task]
        for key, title in kinds:
            points = [
                {**point, "name": row_name(row)}
                for row, runs in mine
                for point in over_seeds(logs.of(runs, "metrics.jsonl"), logged(key))
            ]
            if points:
                label = f"{title} over the steps on {task}, for {', '.join(row_name(row) for row, _ in mine)}"
                seeds = max(len(runs) for _, runs in mine)
                svg = charts.curves(points, signs(section, row_name), title, label)
                yield Figure(svg, f"{title} on {task}, {section.model}; {of_seeds(seeds)}.")
