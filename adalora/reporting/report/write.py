"""Write the report as one self-contained HTML file that works offline, on a phone, on paper and in dark mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from adalora.published import Published
from adalora.reporting.cells import Cell, Column, Row, Section, commits, difference
from adalora.reporting.claimpage import ELSEWHERE, INTRO, probability, span
from adalora.reporting.findings import Findings
from adalora.reporting.report import figures, summaries
from adalora.reporting.report.figures import Figure, Logs, row_name
from adalora.reporting.tables import caption, millions, put, signed
from adalora.reporting.variants import versions_of
from adalora.reporting.verdicts import VERDICTS

FIRST = 12  # figures of a kind that are expanded at first
LARGEST = 5_000_000  # bytes above which a warning is printed
SIGNS = {"reproduced": "✓", "partly": "◐", "not reproduced": "✗", "undecided": "?", "not run": "–",
         "holds": "✓", "fails": "✗", "open": "?"}  # fmt: skip  # beside the words and colours


@dataclass(frozen=True)
class Album:
    """A kind of figure."""

    id: str
    title: str
    text: str
    figures: list[Figure]


def write_report(findings: Findings, out: Path) -> tuple[Path, list[str]]:
    """Write `report.html` into `out`.

    Returns:
        The file, and warnings.

    Raises:
        UserError: the file can't be written.
    """
    logs = Logs(findings.folders)
    page = render(findings, logs)
    lines = [*findings.lines, *(f"no curve of {fault}" for fault in logs.faults)]
    if len(page.encode()) > LARGEST:
        lines.append(f"report.html has {len(page.encode()) / 1e6:.1f} MB: choose fewer runs with --runs FOLDER")
    return put(out, "report.html", page), lines


def render(findings: Findings, logs: Logs) -> str:
    """The page's text."""
    tables = [(name, page, shown(findings.sections[name])) for name, page in findings.pages.items()]
    # a run can be in several of the papers' tables, but figures show it once
    drawn = [
        section for name in ("glue", "squad", "summarization", "packaged") for section in shown(findings.sections[name])
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"signed": signed, "span": span, "p": probability, "millions": millions}
    environment.globals |= {
        "cell": table_cell, "columns": filled, "row_name": row_name, "caption": caption, "commits": commits,
        "signs": SIGNS, "first": FIRST, "verdict_names": VERDICTS, "claims_intro": INTRO, "elsewhere_intro": ELSEWHERE,
    }  # fmt: skip
    here = files("adalora.reporting.report")
    return environment.from_string((here / "template.html.j2").read_text("utf-8")).render(
        findings=findings, tables=[each for each in tables if each[2]], albums=albums(drawn, logs),
        standings=[each for section in drawn for each in summaries.standings(section)],
        took=[each for section in drawn for each in summaries.took(section)],
        versions=versions_of(findings.runs),
        style=(here / "style.css").read_text("utf-8"), script=(here / "script.js").read_text("utf-8"),
    )  # fmt: skip


def shown(sections: Sequence[Section]) -> list[Section]:
    """The sections with any run."""
    return [section for section in sections if section.all_runs()]


def filled(section: Section) -> list[Column]:
    """The columns with any number, ours or published."""
    beside = section.beside or {}
    return [c for c in section.columns if any(row.cell(c) or row.key(c) in beside for row in section.rows)]


def albums(sections: Sequence[Section], logs: Logs) -> list[Album]:
    """All figures by kind; empty kinds are left out."""
    kinds = [
        Album(
            "curves", "Learning curves", "The headline metric at every evaluation.",
            [each for section in sections for each in figures.learning_curves(section, logs)],
        ),
        Album(
            "size", "Metric against budget", "The headline metric of the last step over the adapter's parameters.",
            [each for section in sections for each in figures.against_size(section)],
        ),
        Album(
            "ranks", "Realised ranks",
            "Where the budget went: the rank of every adapted map at the end, as in the paper's Figure 3.",
            [each for section in sections for each in figures.rank_maps(section)],
        ),
        Album(
            "over-time", "Ranks over time", "The mean rank of each kind of map.",
            [each for section in sections for each in figures.ranks_over_time(section, logs)],
        ),
        Album(
            "allocation", "Budget and threshold",
            "The total rank, and the highest importance score that was masked.",
            [each for section in sections for each in figures.allocation(section, logs)],
        ),
    ]  # fmt: skip
    return [album for album in kinds if album.figures]


@dataclass(frozen=True)
class TableCell:
    """A table cell: our summary, the paper's number and the difference; `order` is the sort key."""

    ours: Cell | None
    paper: Published | None
    difference: float | None
    order: float | None


def table_cell(section: Section, row: Row, column: Column) -> TableCell:
    """Make a table cell."""
    ours, theirs = row.cell(column), (section.beside or {}).get(row.key(column))
    order = ours.last if ours else theirs.value if theirs else None
    return TableCell(ours, theirs, difference(ours, theirs), order)
