"""Tables of what was run, beside the published ones where their numbers apply.

A row is a method at a budget, as in the paper's Table 1; a cell summarises the seeds of one task. Runs that differ
in anything else are never summarised together (adalora/reporting/variants.py). Both the last and the best step are
shown, as papers differ in which they report (docs/deviations.md: D-incre-select).
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from adalora.errors import UserError
from adalora.files import write_text
from adalora.reporting.cells import (
    AVERAGE,
    SET_OF,
    TASK_SETS,
    TITLES,
    Cell,
    Column,
    Contrast,
    Row,
    Section,
    commits,
    difference,
    position,
    rows_of,
)
from adalora.reporting.claimpage import claims_document, claims_table
from adalora.reporting.claimpage import elsewhere as judge_elsewhere
from adalora.reporting.claims import read_claims
from adalora.reporting.documents import PACKAGED_INTRO, PAGES, Page, Part
from adalora.reporting.longform import long_form
from adalora.reporting.paper import BART, CONTRASTS, FOLDER, MODEL, Key, Published, minus, model_of, read_paper, scores
from adalora.reporting.render import Document, Grid, latex, markdown
from adalora.reporting.results import Run, budget_of, folder_of, read_results
from adalora.reporting.variants import clashes, mixtures
from adalora.reporting.verdicts import judge

Paper = Mapping[str, Mapping[Key, Published]]  # published cells by table


def beside(page: Page, part: Part, runs: Sequence[Run], paper: Paper) -> Section:
    """One published table: our runs of its rows (of all rows, where the page is `whole`), and its rows not run."""
    tasks = {column.task for column in part.columns}
    theirs = paper.get(part.table, {})
    printed = {key[2:] for key in theirs}
    ours = rows_of(run for run in runs if run["task"]["name"] in tasks)
    contrasts = [contrast for names in CONTRASTS.values() for contrast in contrasts_of(ours, *names)]
    rows = [row for row in ours if page.whole or identity(row) in printed]
    rows += [row for row in contrasts if identity(row) in printed]
    missing = printed - {identity(row) for row in rows}
    rows += [Row(method, budget, variant, variant, {}) for method, budget, variant in missing]
    title = f"{part.title}, {part.model}"
    cells = scores(paper) if page.whole else theirs
    rows.sort(key=position)
    return Section(title, part.model, tuple(part.columns), rows, cells, source=part.source, scored=part.scored)


def identity(row: Row) -> tuple[str, str, str]:
    """What a row's printed numbers are found under, in any column."""
    return row.method, row.budget, row.published


def contrasts_of(rows: Sequence[Row], one: str, other: str) -> list[Contrast]:
    """The differences of two variants of IncreLoRA, one for each budget that both were run at."""
    found = []
    for row in rows:
        for less in rows:
            if identity(row) == ("increlora", less.budget, one) and identity(less) == ("increlora", row.budget, other):
                shown = minus(row.variant, less.variant)  # which may also name what tells several of a variant apart
                found.append(Contrast(row.method, row.budget, shown, minus(one, other), row.runs, less))
    return found


def packaged_sections(runs: Iterable[Run]) -> list[Section]:
    """A table for every model, task or set of tasks, and whether the rows are the official ones."""
    groups: dict[tuple[str, str, bool, bool], list[Run]] = defaultdict(list)
    for run in runs:
        model, task = run["model"], run["task"]
        groups[model["title"], SET_OF.get(task["name"], task["name"]), task["subset"], model["comparable"]].append(run)
    sections = []
    for (model, name, subset, comparable), group in sorted(groups.items(), key=lambda item: item[0]):
        title = f"{name}, {model}{', NOT the official row counts' if subset else ''}"
        title += "" if comparable or model not in (MODEL, BART) else ", other architecture"
        columns = TASK_SETS.get(name) or columns_of(group)
        sections.append(Section(title, model, columns, rows_of(group), None, comparable, subset))
    return sections


def columns_of(runs: Sequence[Run]) -> tuple[Column, ...]:
    """The metrics of a task that no paper has, the headline first."""
    task = runs[0]["task"]["name"]
    names = dict.fromkeys([run["task"]["headline"] for run in runs] + [name for run in runs for name in run["last"]])
    return tuple(
        Column(task, name, f"{task} {name}") for name in names if name != "loss" and not name.endswith("_threshold")
    )


def applies(run: Run) -> bool:
    """Whether the papers' numbers may stand beside a run."""
    model, task = run["model"], run["task"]
    in_paper = task["name"] in SET_OF
    return in_paper and model["comparable"] and model["title"] == model_of(task["name"]) and not task["subset"]


def grid(section: Section) -> Grid:
    """A table's strings, with the published numbers in lines below ours."""
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
        name = TITLES.get(row.method, row.method)
        lines[0][:2] = [f"{name} [{row.variant}]" if row.variant else name, "" if row.budget == "any" else row.budget]
        blocks.append(lines)
    header = ["Method", "Budget", "# Params", "", *(column.title for column in section.columns)]
    return Grid(section.title, caption(section), header, blocks)


def millions(count: float) -> str:
    """A parameter count as the paper prints it."""
    return f"{count / 1e6:.2f}M" if count >= 1e4 else f"{count:,.0f}"


def spread(cell: Cell | None, column: Column) -> str:
    """Standard deviation and number of seeds."""
    if cell is None or column == AVERAGE:
        return ""
    return f"({cell.n})" if cell.std is None else f"{cell.std:.2f} ({cell.n})"


def interval(cell: Cell | None) -> str:
    """The interval of the last step's mean; nothing where the seeds tell none."""
    return "" if cell is None or cell.interval is None else f"{cell.interval[0]:.1f}-{cell.interval[1]:.1f}"


def signed(value: float | None) -> str:
    """Two decimals with the sign; nothing for None."""
    return "" if value is None else f"{round(value, 2) + 0.0:+.2f}"


def caption(section: Section) -> list[str]:
    """What the numbers are of: model, data, seeds, code."""
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
    rows = "NOT the official row counts" if section.subset else "the official row counts"
    seeds = ", ".join(map(str, sorted({run["seed"] for run in runs})))
    precisions = ", ".join(sorted({run["precision"] for run in runs}))
    return [
        f"Model: {'; '.join(sorted(models))}. Precision: {precisions}.",
        f"Data, {rows}: {'; '.join(data[text] for text in sorted(data))}.",
        f"Seeds: {seeds}. Commits: {', '.join(commits(runs))}.",
    ]


def footnotes(sections: Sequence[Section]) -> list[str]:
    """Warnings about the runs of one document."""
    return [line for section in sections for line in mixtures(section.all_runs()) + clashes(section.all_runs())]


def write_tables(root: Path, out: Path, published: Path = FOLDER) -> tuple[list[Path], list[str]]:
    """Write every page of `PAGES`, `packaged` and `claims`, as md, csv and tex.

    Returns:
        The files, and a line for everything left out or to be careful with.

    Raises:
        UserError: nothing to read, or no place to write.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder: give the runs' with --runs FOLDER")
    paper = read_paper(published)
    runs, skipped = read_results(root)
    lines = [f"skipped {line}" for line in skipped]
    if not runs:
        told = f" ({len(skipped)} skipped, the first {skipped[0]})" if skipped else ""
        raise UserError(f"{root} holds no finished run for a table{told}: run train.py first")
    ours = [run for run in runs if applies(run)]
    others = [run for run in runs if not applies(run)]
    left = [f"Left out: {len(skipped)} result.json, {'; '.join(skipped)}."] if skipped else []
    sections = {name: [beside(page, part, ours, paper) for part in page.parts] for name, page in PAGES.items()}
    sections["packaged"] = packaged_sections(others)
    warnings = {name: list(dict.fromkeys(footnotes(tables))) for name, tables in sections.items()}
    packaged = Page(
        "Runs that the papers' numbers don't apply to",
        PACKAGED_INTRO if others else [*PACKAGED_INTRO, "No such run yet."],
        [],
        [],
    )
    documents = {
        name: Document(
            page.title, list(page.intro), list(map(grid, sections[name])), [*page.notes, *warnings[name], *left]
        )
        for name, page in (PAGES | {"packaged": packaged}).items()
    }
    texts: dict[str, str] = {}
    for name, document in documents.items():
        table = long_form(sections[name])
        texts |= {f"{name}.md": markdown(document), f"{name}.csv": table, f"{name}.tex": latex(document)}
    claims = read_claims(published)
    verdicts, elsewhere = judge(claims, ours, paper), judge_elsewhere(claims, others)
    document = claims_document(verdicts, elsewhere)
    texts |= {"claims.md": markdown(document), "claims.tex": latex(document)}
    texts["claims.csv"] = claims_table(verdicts, elsewhere)
    try:
        for name, text in texts.items():
            write_text(out / name, text)
    except UserError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise UserError(f"{out} can't be written ({reason}): choose another place with --out FOLDER") from error
    warned = dict.fromkeys(line for found in warnings.values() for line in found)  # a run may be on two pages
    return [out / name for name in texts], [*lines, *warned]


def run_table(results: Sequence[Run]) -> Table:
    """What a multirun ran, a row per job, in the order given."""
    table = Table(box=None)
    for name in ("task", "method", "budget", "seed"):
        table.add_column(name)
    for name in ("adapter kept", "metric", "last %", "best %", "time"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    table.add_column("folder")
    for run in results:
        headline, seconds = run["task"]["headline"], round(run["seconds"])
        table.add_row(
            run["task"]["name"], run["method"]["name"], budget_of(run), str(run["seed"]),
            f"{run['parameters']['kept']:,}", headline,
            f"{100 * run['last'][headline]:.2f}", f"{100 * run['best'][headline]:.2f}",
            f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}", folder_of(run),
        )  # fmt: skip
    return table
