"""Tables of our runs, next to the published numbers where those apply.

A row is a method at a budget, as in the paper's Table 1; a cell summarises the seeds of one task. Runs that differ in
anything else are never summarised together (adalora/reporting/variants.py). Both the last and the best step are shown,
because papers differ in which they report (docs/deviations.md: D-incre-select).
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from adalora.files import write_text
from adalora.reporting.cells import AVERAGE, Cell, Column, Section, commits, difference
from adalora.reporting.claimpage import claims_document, claims_table
from adalora.reporting.findings import Findings
from adalora.reporting.longform import long_form
from adalora.reporting.render import Document, Grid, latex, markdown
from adalora.reporting.results import Run, budget_of, folder_of


def grid(section: Section) -> Grid:
    """The strings of a table, with published numbers in lines below ours."""
    blocks, step = [], "last" if section.scored else "ours"
    for row in section.rows:
        cells = [row.cell(column) for column in section.columns]
        lines = []
        if row.runs:
            kept = millions(statistics.median(run["parameters"]["kept"] for run in row.all_runs()))
            subset = ", subset" if section.subset else ""
            lines = [
                ["", "", kept, f"{step}{subset}", *(f"{cell.last:.2f}" if cell else "" for cell in cells)],
                ["", "", "", f"std (n){subset}", *map(spread, cells, section.columns)],
            ]
            if any(cell and cell.interval for cell in cells):
                lines.append(["", "", "", f"95 %{subset}", *map(interval, cells)])
            if section.scored:
                lines.append(["", "", "", f"best{subset}", *(f"{cell.best:.2f}" if cell else "" for cell in cells)])
        if section.beside is not None:
            theirs = [section.beside.get(row.key(column)) for column in section.columns]
            params = next((cell.params for cell in theirs if cell), "")
            lines.append(["", "", params, section.source, *(f"{cell.value:.2f}" if cell else "" for cell in theirs)])
            if row.runs:
                lines.append(["", "", "", f"{step} - {section.source}", *map(signed, map(difference, cells, theirs))])
        lines[0][:2] = [row.title, "" if row.budget == "any" else row.budget]
        blocks.append(lines)
    header = ["Method", "Budget", "# Params", "", *(column.title for column in section.columns)]
    return Grid(section.title, caption(section), header, blocks)


def millions(count: float) -> str:
    """Format a parameter count as the paper does."""
    return f"{count / 1e6:.2f}M" if count >= 1e4 else f"{count:,.0f}"


def spread(cell: Cell | None, column: Column) -> str:
    """Standard deviation and number of seeds."""
    if cell is None or column == AVERAGE:
        return ""
    return f"({cell.n})" if cell.std is None else f"{cell.std:.2f} ({cell.n})"


def interval(cell: Cell | None) -> str:
    """The interval of the last step's mean; empty if there is none."""
    return "" if cell is None or cell.interval is None else f"{cell.interval[0]:.1f}-{cell.interval[1]:.1f}"


def signed(value: float | None) -> str:
    """Format with sign and two decimals; empty for None."""
    return "" if value is None else f"{round(value, 2) + 0.0:+.2f}"


def caption(section: Section) -> list[str]:
    """Caption of a table: model, data, seeds, commits."""
    runs = section.all_runs()
    if not runs:
        return ["No run of ours yet."]
    models = {f"{run['model']['title']} ({run['model']['origin']}, {run['model']['digest'][:10]})" for run in runs}
    data = {}
    for run in runs:
        task = run["task"]
        splits = ", ".join(f"{split} {count:,}" for split, count in task["rows"].items())
        text = f"{task['name']}: {task['origin']}, {splits}, digest {task['digest'][:10]}"
        data[text] = f"{text}, task version {task['version']}, trained on {task['train_split']}"
    rows = {True: "NOT the official row counts", False: "the official row counts", None: "no official row counts"}
    seeds = ", ".join(map(str, sorted({run["seed"] for run in runs})))
    precisions = ", ".join(sorted({run["precision"] for run in runs}))
    return [
        f"Model: {'; '.join(sorted(models))}. Precision: {precisions}.",
        f"Data, {rows[section.subset]}: {'; '.join(data[text] for text in sorted(data))}.",
        f"Seeds: {seeds}. Commits: {', '.join(commits(runs))}.",
    ]


def write_tables(findings: Findings, out: Path, only: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Write every page of `PAGES`, `packaged` and `claims`, as md, csv and tex, or `only` those named.

    Returns:
        The files, and warnings.

    Raises:
        UserError: a file can't be written.
    """
    left = (
        [f"Left out: {len(findings.skipped)} result.json, {'; '.join(findings.skipped)}."] if findings.skipped else []
    )
    documents = {
        name: Document(
            page.title, list(page.intro), list(map(grid, findings.sections[name])),
            [*page.notes, *findings.warnings[name], *left],
        )
        for name, page in findings.pages.items()
    }  # fmt: skip
    texts: dict[str, str] = {}
    for name, document in documents.items():
        table = long_form(findings.sections[name])
        texts |= {f"{name}.md": markdown(document), f"{name}.csv": table, f"{name}.tex": latex(document)}
    document = claims_document(findings.verdicts, findings.elsewhere)
    texts |= {"claims.md": markdown(document), "claims.tex": latex(document)}
    texts["claims.csv"] = claims_table(findings.verdicts, findings.elsewhere)
    chosen = {name: text for name, text in texts.items() if not only or Path(name).stem in only}
    return [put(out, name, text) for name, text in chosen.items()], findings.lines


def put(out: Path, name: str, text: str) -> Path:
    """Write a file into `out`. Raises `UserError`, which names --out."""
    write_text(out / name, text, "choose another place with --out FOLDER")
    return out / name


def run_table(results: Sequence[Run]) -> Table:
    """A table of the runs of a multirun, one row per job, in the given order."""
    table = Table(box=None)
    for name in ("task", "method", "budget", "seed"):
        table.add_column(name, overflow="fold")
    for name in ("adapter kept", "metric", "last %", "best %", "time"):
        table.add_column(name, justify="left" if name == "metric" else "right", overflow="fold")
    table.add_column("folder", overflow="fold")
    for run in results:
        headline, seconds = run["task"]["headline"], round(run["seconds"])
        table.add_row(
            run["task"]["name"], run["method"]["name"], budget_of(run), str(run["seed"]),
            f"{run['parameters']['kept']:,}", headline,
            f"{100 * run['last'][headline]:.2f}", f"{100 * run['best'][headline]:.2f}",
            f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}", folder_of(run),
        )  # fmt: skip
    return table
