"""The report: one self-contained HTML file that works offline, on a phone, on paper and in dark mode."""

import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure as Drawing

from adalora.records.published import factor
from adalora.records.result import portable
from adalora.reporting import figures, tables
from adalora.reporting.columns import Column
from adalora.reporting.curves import Logs, adaptive, by_module, over_seeds, rank_grids
from adalora.reporting.frame import heads, versions_of
from adalora.reporting.pages import Findings, Section
from adalora.reporting.verdicts import VERDICTS
from adalora.statistics.over_tasks import improvement, interquartile_means, mean_ranks

HERE = Path(__file__).parent / "templates"
FIRST = 12  # figures of a kind that are shown at first
LARGEST = 5_000_000  # bytes above which a warning is given
SIGNS = {"reproduced": "✓", "partly": "◐", "not reproduced": "✗", "undecided": "?", "not run": "–",
         "holds": "✓", "fails": "✗", "open": "?", "no difference": "="}  # fmt: skip  # beside the words and colours


class Figure(NamedTuple):
    """A figure as a data URI, what it shows in words, and for which runs."""

    uri: str
    label: str
    caption: str


def write_report(findings: Findings, out: Path) -> tuple[Path, list[str]]:
    """Write `report.html` into `out`.

    Returns:
        The file, and warnings.

    Raises:
        UserError: the file can't be written.
    """
    logs = Logs()
    page = render(findings, logs)
    lines = list(findings.warnings)
    if logs.faults:
        more = f", and {len(logs.faults) - 3} more" if len(logs.faults) > 3 else ""
        lines.append(f"no curve of {'; '.join(logs.faults[:3])}{more}")
    if len(page.encode()) > LARGEST:
        lines.append(f"report.html has {len(page.encode()) / 1e6:.1f} MB: choose fewer runs with --runs FOLDER")
    return tables.put(out, "report.html", page), lines


def render(findings: Findings, logs: Logs) -> str:
    """The page's text."""
    documents = {name: document for name, document in findings.documents.items() if document.run}
    # a run can be in several of the papers' tables, but figures show it once
    drawn = [
        section for name in ("glue", "squad", "summarization", "decoders", "packaged") if name in documents
        for section in documents[name].sections if len(section.runs)
    ]  # fmt: skip
    albums = {title: [figure for section in drawn for figure in draw(section, logs)] for title, draw in ALBUMS.items()}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FileSystemLoader(HERE)
    )
    environment.filters |= {"p": tables.probability}
    environment.filters |= {name: getattr(tables, name) for name in ("signed", "span", "millions", "number")}
    return environment.get_template("report.html.j2").render(
        findings=findings, documents=documents, albums={title: found for title, found in albums.items() if found},
        runs=heads(findings.frame), was_run=what_was_run(findings), versions=versions_of(heads(findings.frame)),
        standings=[each for section in drawn for each in standings(section)],
        costs=[each for section in drawn for each in costs(section)],
        caption=tables.caption, kept_of=tables.kept_of, mean_of=tables.mean_of, value_of=tables.value_of,
        commits=commits, signs=SIGNS, first=FIRST, verdict_names=VERDICTS,
        style=(HERE / "style.css").read_text("utf-8"), script=(HERE / "script.js").read_text("utf-8"),
    )  # fmt: skip


def commits(runs: pd.DataFrame) -> list[str]:
    """The commits of some runs."""
    return sorted(set(runs["commit"]))


def what_was_run(findings: Findings) -> pd.DataFrame:
    """Seeds of every method, model and budget, by task."""
    runs = heads(findings.frame)
    rows = (" (" + runs["rows"] + ")").where(runs["rows"] != "", "")
    counts = (
        runs.assign(task=runs["task"] + rows)
        .groupby(["model", "title", "budget", "task"], sort=False)
        .size()
        .reset_index(name="n")
    )
    counts["tasks"] = counts["task"] + " " + counts["n"].astype(str)
    return counts.groupby(["model", "title", "budget"], sort=False)["tasks"].agg(", ".join).reset_index()


def headlines(section: Section) -> Iterator[tuple[Column, pd.DataFrame]]:
    """The headline column of each task that was run, with its runs."""
    for (task, metric), runs in section.runs.groupby(["task", "headline"], sort=False):
        columns = [column for column in section.columns if column[:2] == (task, metric)]
        yield columns[0] if columns else Column(task, metric, f"{task} {metric}"), runs


def labels(section: Section) -> list[str]:
    """The names of all rows that were run, in the table's order, which determines colours and shapes."""
    return list(dict.fromkeys(section.runs.sort_values("row")["label"]))


def figure(drawing: Drawing, label: str, text: str) -> Figure:
    """A figure of the report."""
    return Figure(f"data:image/svg+xml;base64,{b64encode(figures.svg(drawing).encode()).decode()}", label, text)


def axis(column: Column) -> str:
    """A column's title, with its unit."""
    return f"{column.title}, %" if factor(column.metric) == 100 else column.title


def of_seeds(runs: pd.DataFrame) -> str:
    """In words."""
    counts = sorted(set(runs.groupby("row").size()))
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return "1 seed" if counts == [1] else f"mean of {seeds} seeds, band from the lowest to the highest"


def logged(cells: Mapping[Any, pd.DataFrame], logs: Logs, key: str, scale: float = 1) -> pd.DataFrame:
    """The curves of a logged value for runs by name."""
    lines = [over_seeds(logs.of(runs, "metrics.jsonl"), key, scale).assign(name=name) for name, runs in cells.items()]
    return pd.concat(lines)


def learning_curves(section: Section, logs: Logs) -> Iterator[Figure]:
    """The headline metric over steps: one figure per task, one line per row."""
    for column, runs in headlines(section):
        points = logged(dict(tuple(runs.groupby("label"))), logs, f"eval/{column.metric}", factor(column.metric))
        if len(points):
            label = f"{column.title} over the steps, for {', '.join(points['name'].unique())}"
            drawing = figures.curves({"": points}, labels(section), "step", axis(column))
            yield figure(drawing, label, f"{column.title}, {section.model}; {of_seeds(runs)}.")


def against_size(section: Section, logs: Logs) -> Iterator[Figure]:
    """The headline metric over the kept parameters: one figure per task, one sign per method."""
    run = section.cells[section.cells["n"] > 0]
    for column, _ in headlines(section):
        cells = run[(run["task"] == column.task) & (run["metric"] == column.metric)]
        if len(cells):
            points = cells[["title", "kept", "mean_last", "paper"]].set_axis(["name", "size", "mean", "paper"], axis=1)
            ends = [tables.interval_of(cell) or (None, None, False) for cell in cells.to_dict("records")]
            points[["low", "high"]] = [each[:2] for each in ends]
            ranges = (
                ", or the seeds' range where that would leave the metric's" if any(each[2] for each in ends) else ""
            )
            paper = "; open signs: the paper's" if points["paper"].notna().any() else ""
            label = f"{column.title} over the adapter's size, for {', '.join(points['name'].unique())}"
            drawing = figures.against_size(points, list(run["title"].unique()), axis(column))
            text = f"{column.title}, {section.model}: mean of the last step with its 95 % interval{ranges}{paper}."
            yield figure(drawing, label, text)


def allocated(section: Section) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Label, task and runs of the cells whose modules end with different ranks."""
    for (_, label, task), runs in section.runs.groupby(["row", "label", "task"]):
        if adaptive(runs):
            yield label, task, runs


def rank_figures(section: Section, logs: Logs) -> Iterator[Figure]:
    """Realised ranks, layer by module, as in the paper's Figure 3: one figure per cell and stack of layers."""
    for name, task, runs in allocated(section):
        grids = rank_grids(runs)
        for stack, ranks in grids.items():
            part = f" ({stack})" if len(grids) > 1 else ""
            mean = "" if len(runs) == 1 else f", mean of {len(runs)} seeds"
            layer, module = ranks.stack().idxmax()
            highest = f"the highest {ranks.max().max():.3g} in layer {layer}, {module}"
            label = f"Realised ranks of {name} on {task}{part}, {highest}"
            yield figure(figures.heat_map(ranks), label, f"{name} on {task}{part}, {section.model}{mean}.")


def ranks_over_time(section: Section, logs: Logs) -> Iterator[Figure]:
    """The mean rank of each kind of module over steps: one figure per cell."""
    for name, task, runs in allocated(section):
        targets: Mapping[str, str] = runs["result"].iloc[0].model.get("targets", {})
        points = by_module(logs.of(runs, "ranks.jsonl"), targets)
        if len(points):
            label = f"Mean rank of each kind of module over the steps, {name} on {task}"
            drawing = figures.curves({"": points}, list(targets), "step", "mean rank")
            yield figure(drawing, label, f"{name} on {task}, {section.model}; {of_seeds(runs)}.")


def allocation(section: Section, logs: Logs) -> Iterator[Figure]:
    """The rank budget and the threshold over steps: two figures per task, one line per row."""
    cells = list(allocated(section))
    for task in dict.fromkeys(task for _, task, _ in cells):
        mine = {name: runs for name, each, runs in cells if each == task}
        for key, title in (("allocation/budget", "total rank"), ("allocation/threshold", "threshold")):
            points = logged(mine, logs, key)
            if len(points):
                label = f"{title} over the steps on {task}, for {', '.join(points['name'].unique())}"
                drawing = figures.curves({"": points}, labels(section), "step", title)
                yield figure(
                    drawing, label, f"{title} on {task}, {section.model}; {of_seeds(pd.concat(mine.values()))}."
                )


ALBUMS = {
    "Learning curves": learning_curves, "Metric against budget": against_size, "Realised ranks": rank_figures,
    "Ranks over time": ranks_over_time, "Budget and threshold": allocation,
}  # fmt: skip


def standings(section: Section) -> Iterator[dict[str, Any]]:
    """The methods at one budget over their common tasks: mean rank, interquartile mean, and the probability that a
    reference scores above. One table per budget, if at least two methods have at least two tasks in common."""
    for budget, runs in section.runs.sort_values(["row", "seed"]).groupby("budget"):
        counts = runs.groupby(["label", "task"], sort=False).size().unstack()
        tasks = sorted(counts.columns[counts.notna().all()])
        if len(counts) < 2 or len(tasks) < 2:
            continue
        of = dict(tuple(runs.groupby(["label", "task"])["last"]))
        scores = {name: {task: of[name, task].tolist() for task in tasks} for name in counts.index}
        ranks, middles = mean_ranks(scores), interquartile_means(scores)
        reference = next(iter([*runs.loc[runs["method"] == "adalora", "label"], *counts.index]))
        rows = [
            (name, ranks[name], middles[name], None if name == reference else improvement(scores, reference, name))
            for name in scores
        ]
        title = f"{section.title}, {budget}: {', '.join(tasks)}"
        yield {"title": title, "reference": reference, "rows": sorted(rows, key=lambda row: row[1].value)}


def costs(section: Section) -> Iterator[dict[str, object]]:
    """What each cell cost, and the commands to run it again, without options of the machine."""
    for (_, label, task), runs in section.runs.groupby(["row", "label", "task"]):
        middle = runs[["peak", "kept", "head", "seconds", "steps", "memory_mb"]].median()
        yield {
            "label": label, "task": task, "model": section.model, **middle.to_dict(),
            "machines": sorted(set(runs["machine"])), "commits": commits(runs),
            "commands": {
                run: f"python train.py {shlex.join(portable(result.command)[1:])}"
                for run, result in zip(runs["run"], runs["result"], strict=True)
            },
        }  # fmt: skip
