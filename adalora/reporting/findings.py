"""The content of reports and tables: runs sorted into tables, published numbers, and verdicts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adalora.errors import UserError
from adalora.places import PAPER, POCKET
from adalora.published import BART, CONTRASTS, MODEL, Difference, model_of, read_paper, scores
from adalora.reporting.cells import SET_OF, TASK_SETS, Column, Contrast, Row, Section, position, rows_of
from adalora.reporting.claims import read_claims
from adalora.reporting.comparisons import Paper
from adalora.reporting.documents import PACKAGED_INTRO, PAGES, Page, Part
from adalora.reporting.results import Run, read_folders
from adalora.reporting.variants import clashes, mixtures, several_versions
from adalora.reporting.verdicts import Group, Verdict, judge, judge_elsewhere
from adalora.variant import Variant, describe


@dataclass(frozen=True)
class Findings:
    """The findings below a run root.

    `sections`, `warnings` and `pages` are by page name; `elsewhere` has the verdicts on other backbones.
    """

    folders: Sequence[tuple[Path, Run]]
    skipped: Sequence[str]
    pages: Mapping[str, Page]
    sections: Mapping[str, Sequence[Section]]
    warnings: Mapping[str, Sequence[str]]
    verdicts: Sequence[Verdict]
    elsewhere: Sequence[Group]

    @property
    def runs(self) -> list[Run]:
        """The good results."""
        return [run for _, run in self.folders]

    @property
    def lines(self) -> list[str]:
        """All warnings, without duplicates: a run may be on two pages."""
        warned = dict.fromkeys(line for found in self.warnings.values() for line in found)
        return [*(f"skipped {line}" for line in self.skipped), *warned]


def gather(root: Path, published: Path = PAPER) -> Findings:
    """Read all results below `root` and sort them.

    Raises:
        UserError: the folder is missing or has no runs, or published numbers can't be read.
    """
    paper, claims = read_paper(published), read_claims(published)
    own = read_claims(POCKET, published) if POCKET.is_dir() else []  # a wheel has none
    folders, skipped = read_folders(root)
    if not folders:
        told = f" ({len(skipped)} skipped, the first {skipped[0]})" if skipped else ""
        raise UserError(f"{root} holds no finished run for a table{told}: run train.py first")
    ours = [run for _, run in folders if applies(run)]
    others = [run for _, run in folders if not applies(run)]
    sections = {name: [beside(page, part, ours, paper) for part in page.parts] for name, page in PAGES.items()}
    sections["packaged"] = packaged_sections(others)
    intro = PACKAGED_INTRO if others else [*PACKAGED_INTRO, "No such run yet."]
    pages = PAGES | {"packaged": Page("Runs that the papers' numbers don't apply to", intro, [], [])}
    warnings = {name: list(dict.fromkeys(footnotes(tables))) for name, tables in sections.items()}
    verdicts = judge(claims, ours, paper)
    elsewhere = judge_elsewhere([*own, *(claim for claim in claims if claim.kind == "scores")], others)
    return Findings(folders, skipped, pages, sections, warnings, verdicts, elsewhere)


def beside(page: Page, part: Part, runs: Sequence[Run], paper: Paper) -> Section:
    """A published table: our runs of its rows (or of all rows, if the page is `whole`), and its rows without runs."""
    tasks = {column.task for column in part.columns}
    theirs = paper.get(part.table, {})
    printed = {key[2:] for key in theirs}
    ours = rows_of(run for run in runs if run["task"]["name"] in tasks)
    contrasts = [contrast for names in CONTRASTS.values() for contrast in contrasts_of(ours, *names)]
    rows = [row for row in ours if page.whole or identity(row) in printed]
    rows += [row for row in contrasts if identity(row) in printed]
    missing = printed - {identity(row) for row in rows}
    rows += [Row(method, budget, title_of(variant), variant, {}) for method, budget, variant in missing]
    title = f"{part.title}, {part.model}"
    cells = scores(paper) if page.whole else theirs
    rows.sort(key=position)
    return Section(title, part.model, tuple(part.columns), rows, cells, source=part.source, scored=part.scored)


def title_of(variant: Variant | Difference) -> str:
    """A variant, or the difference of two, in words."""
    if isinstance(variant, frozenset):
        return describe(variant)
    one, other = map(describe, variant)
    return minus(one, other)


def minus(one: str, other: str) -> str:
    """Name the difference of two variants."""
    return f"({one or 'as published'}) minus ({other})"


def identity(row: Row) -> tuple[str, str, Variant | Difference]:
    """The key of a row's published numbers, without the column."""
    return row.method, row.budget, row.published


def contrasts_of(rows: Sequence[Row], one: Variant, other: Variant) -> list[Contrast]:
    """The differences of two variants of IncreLoRA, one per common budget."""
    found = []
    for row in rows:
        for less in rows:
            if identity(row) == ("increlora", less.budget, one) and identity(less) == ("increlora", row.budget, other):
                shown = minus(row.variant, less.variant)  # may tell apart several rows of one published variant
                found.append(Contrast(row.method, row.budget, shown, (one, other), row.runs, less))
    return found


def packaged_sections(runs: Iterable[Run]) -> list[Section]:
    """One table per model, task or set of tasks, and official or other row counts."""
    groups: dict[tuple[str, str, bool | None, bool], list[Run]] = defaultdict(list)
    for run in runs:
        model, task = run["model"], run["task"]
        groups[model["title"], SET_OF.get(task["name"], task["name"]), task["subset"], model["comparable"]].append(run)
    sections = []
    for (model, name, subset, comparable), group in sorted(groups.items(), key=lambda item: tuple(map(str, item[0]))):
        title = f"{name}, {model}{', NOT the official row counts' if subset else ''}"
        title += "" if comparable or model not in (MODEL, BART) else ", other architecture"
        columns = TASK_SETS.get(name) or columns_of(group)
        sections.append(Section(title, model, columns, rows_of(group), None, comparable, subset))
    return sections


def columns_of(runs: Sequence[Run]) -> tuple[Column, ...]:
    """The columns of a task that isn't in a paper: its metrics on each evaluation split, headline first."""
    task = runs[0]["task"]
    names = dict.fromkeys([run["task"]["headline"] for run in runs] + [name for run in runs for name in run["last"]])
    own = [name for name in names if any(name == each or name.startswith(f"{each}_") for each in task["metrics"])]
    return tuple(Column(task["name"], name, f"{task['name']} {name}") for name in own)


def applies(run: Run) -> bool:
    """Whether a run can be compared with the papers' numbers."""
    model, task = run["model"], run["task"]
    in_paper = task["name"] in SET_OF
    return in_paper and model["comparable"] and model["title"] == model_of(task["name"]) and task["subset"] is False


def footnotes(sections: Sequence[Section]) -> list[str]:
    """Warnings about the runs of a document, and what was left out of their data or cut."""
    lines = [line for section in sections for line in mixtures(section.all_runs()) + clashes(section.all_runs())]
    lines += [
        f"{run['task']['name']}: {note}"
        for section in sections for run in section.all_runs() for note in run["task"]["notes"]
    ]  # fmt: skip
    cells = [(row, task, runs) for section in sections for row in section.rows for task, runs in row.runs.items()]
    for row, task, runs in cells:
        for package, found in several_versions(runs).items():
            lines.append(f"{task}, {row.method} {row.budget}: averaged over {package} {' and '.join(found)}")
    return lines
