"""Tables of what was run, beside the paper's where its numbers apply.

A row is a method at a budget, as in the paper's Table 1; a cell summarises the seeds of one task. Runs that differ
in anything else are never summarised together (adalora/reporting/results.py). Both the last and the best step are
shown, as papers differ in which they report (docs/deviations.md: D-incre-select).
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

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
    Row,
    Section,
    commits,
    difference,
    position,
    rows_of,
)
from adalora.reporting.longform import long_form
from adalora.reporting.paper import BART, FOLDER, MODEL, Key, Published, model_of, read_paper
from adalora.reporting.render import Document, Grid, latex, markdown
from adalora.reporting.results import Run, budget_of, clashes, folder_of, mixtures, read_results

INTRO = (
    "In percent. Ours: median over n seeds; last is the last step, best the evaluation with the best headline metric "
    "(a task's other metrics are of that same step); std is the sample standard deviation of last. "
    "Empty: not run. # Params: adapter parameters kept, head not counted."
)
VARIANT_NOTE = (
    "A row's name in brackets lists what sets its runs apart from others of the method and budget, or from the "
    "recipe's length and the method's defaults; the paper's line is of the method as published."
)
GLUE_NOTES = [
    "Ave. is the mean over the 8 tasks, the pairs of MNLI and QQP averaged first; only where all 8 were run. "
    "The published averages are rounded in 9 rows and truncated (0.01 lower) in Full FT, HAdapter 0.6M and LoRA 0.3M.",
    "RTE has 277 dev examples, one is 0.36 points. All 12 values of Table 1 are k/277, which points to single runs, "
    "medians or best values rather than means of 5.",
    "Budgets in percent: the paper's values are from Tables 4 and 5, which differ in places from Table 1.",
    VARIANT_NOTE,
]
PACKAGED_INTRO = [
    "The paper's numbers don't apply here: other weights than its backbone's, other rows than the official ones, or a "
    "task that it doesn't have. Compare within one table only.",
    INTRO,
]


class Beside(NamedTuple):
    """A document that sets one of the paper's tables beside ours."""

    tasks: str  # a key of TASK_SETS
    model: str
    table: str
    title: str
    intro: str
    notes: list[str]


BESIDE = {
    "glue": Beside(
        "GLUE", MODEL, "AdaLoRA-T1", "GLUE beside the paper's Table 1",
        "Paper: arXiv 2303.10512, dev sets, said to be means of 5 seeds; whether of the last or the best step isn't "
        "said.",
        GLUE_NOTES,
    ),
    "squad": Beside(
        "SQuAD", MODEL, "AdaLoRA-T2", "SQuAD beside the paper's Table 2",
        "Paper: arXiv 2303.10512, dev sets; neither seeds nor the step are said.",
        ["v2.0 at the null threshold 0; the values at the best threshold are in result.json under names of their own."],
    ),
    "summarization": Beside(
        "Summarization", BART, "AdaLoRA-T3", "XSum and CNN/DailyMail beside the paper's Table 3",
        "Paper: arXiv 2303.10512; the split isn't said (the released code evaluates on validation).",
        [
            "R-L is over the whole summary, R-Lsum over its sentences. The paper prints one R-L; it stands beside "
            "R-Lsum, which its distance from R-1 on CNN/DailyMail points to (inferred; docs/deviations.md: D-rouge-l).",
        ],
    ),
}  # fmt: skip


def paper_section(beside: Beside, runs: Iterable[Run], paper: Mapping[Key, Published]) -> Section:
    """One of the paper's tables: what ran, and its rows that did not."""
    rows = rows_of(run for run in runs if SET_OF[run["task"]["name"]] == beside.tasks)
    ran = {(row.method, row.budget) for row in rows}
    printed = {key[2:] for key, cell in paper.items() if cell.table == beside.table}
    rows += [Row(method, budget, "", {}) for method, budget in printed - ran]
    title, columns = f"{beside.tasks}, {beside.model}", TASK_SETS[beside.tasks]
    return Section(title, beside.model, columns, True, False, sorted(rows, key=position))


def packaged_sections(runs: Iterable[Run]) -> list[Section]:
    """A table for every model, task set, and whether the rows are the official ones."""
    groups: dict[tuple[str, str, bool, bool], list[Run]] = defaultdict(list)
    for run in runs:
        model, task = run["model"], run["task"]
        groups[model["title"], SET_OF[task["name"]], task["subset"], model["comparable"]].append(run)
    sections = []
    for (model, name, subset, comparable), group in sorted(groups.items(), key=lambda item: item[0]):
        title = f"{name}, {model}{', NOT the official row counts' if subset else ''}"
        title += "" if comparable or model not in (MODEL, BART) else ", other architecture"
        sections.append(Section(title, model, TASK_SETS[name], comparable, subset, rows_of(group)))
    return sections


def applies(run: Run) -> bool:
    """Whether the paper's numbers may stand beside a run."""
    model, task = run["model"], run["task"]
    in_paper = SET_OF[task["name"]] in {beside.tasks for beside in BESIDE.values()}
    return in_paper and model["comparable"] and model["title"] == model_of(task["name"]) and not task["subset"]


def grid(section: Section, paper: Mapping[Key, Published] | None) -> Grid:
    """A table's strings; `paper` adds the lines beside ours."""
    blocks = []
    for row in section.rows:
        cells = [row.cell(column) for column in section.columns]
        lines = []
        if row.runs:
            kept = millions(statistics.median(run["parameters"]["kept"] for run in row.all_runs()))
            subset = ", subset" if section.subset else ""
            lines = [
                ["", "", kept, f"last{subset}", *(f"{cell.last:.2f}" if cell else "" for cell in cells)],
                ["", "", "", f"std (n){subset}", *map(spread, cells, section.columns)],
                ["", "", "", f"best{subset}", *(f"{cell.best:.2f}" if cell else "" for cell in cells)],
            ]
        if paper is not None:
            theirs = [paper.get((*column[:2], row.method, row.budget)) for column in section.columns]
            params = next((cell.params for cell in theirs if cell), "")
            lines.append(["", "", params, "paper", *(f"{cell.value:.2f}" if cell else "" for cell in theirs)])
            if row.runs:
                lines.append(["", "", "", "last - paper", *map(signed, map(difference, cells, theirs))])
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


def write_tables(
    root: Path, out: Path, published: Path = FOLDER / "adalora_tables.csv"
) -> tuple[list[Path], list[str]]:
    """Write `glue`, `squad`, `summarization` and `packaged` as md, csv and tex.

    Returns:
        The files, and a line for everything left out or to be careful with.

    Raises:
        UserError: nothing to read, or no place to write.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder: give the runs' with --runs FOLDER")
    paper = read_paper(published)
    runs, skipped = read_results(root)
    left_out = sorted({run["task"]["name"] for run in runs if run["task"]["name"] not in SET_OF})
    runs = [run for run in runs if run["task"]["name"] not in left_out]
    lines = [f"skipped {line}" for line in skipped] + [f"task {name} has no table yet" for name in left_out]
    if not runs:
        told = f" ({len(skipped)} skipped, the first {skipped[0]})" if skipped else ""
        raise UserError(f"{root} holds no finished run for a table{told}: run train.py first")
    ours = [run for run in runs if applies(run)]
    others = [run for run in runs if not applies(run)]
    left = [f"Left out: {len(skipped)} result.json, {'; '.join(skipped)}."] if skipped else []
    packaged = packaged_sections(others)
    beside = {name: [paper_section(which, ours, paper)] for name, which in BESIDE.items()}
    warnings = {name: footnotes(sections) for name, sections in (beside | {"packaged": packaged}).items()}
    documents = {
        name: Document(
            which.title, [INTRO, which.intro], [grid(section, paper) for section in beside[name]],
            which.notes + warnings[name] + left,
        )
        for name, which in BESIDE.items()
    }  # fmt: skip
    documents["packaged"] = Document(
        "Runs that the paper's numbers don't apply to",
        PACKAGED_INTRO if others else [*PACKAGED_INTRO, "No such run yet."],
        [grid(section, None) for section in packaged],
        warnings["packaged"] + left,
    )
    texts: dict[str, str] = {}
    for name, document in documents.items():
        long = long_form(beside[name], paper) if name in beside else long_form(packaged, None)
        texts |= {f"{name}.md": markdown(document), f"{name}.csv": long, f"{name}.tex": latex(document)}
    try:
        for name, text in texts.items():
            write_text(out / name, text)
    except UserError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise UserError(f"{out} can't be written ({reason}): choose another place with --out FOLDER") from error
    return [out / name for name in texts], lines + [line for found in warnings.values() for line in found]


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
