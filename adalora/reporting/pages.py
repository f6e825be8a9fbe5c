"""The content of tables and reports: runs sorted into pages, beside the published numbers, and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from adalora.errors import UserError
from adalora.files.reading import read_yaml
from adalora.paths import PAPER
from adalora.records.published import CONTRASTS, MODELS, Difference, Key, Published, model_of, read_paper, scores
from adalora.records.studies import FILE as STUDY
from adalora.records.studies import Study, read_study
from adalora.records.variant import Variant, describe
from adalora.reporting.cells import CELL, ROW, contrasts, minus, summarise
from adalora.reporting.claims import read_claims
from adalora.reporting.columns import TASK_SETS, Column, position, title_of
from adalora.reporting.frame import collapsed, heads, read, warnings_of
from adalora.reporting.verdicts import Paper, Verdict, judge, judge_elsewhere

KEY = ["method", "budget", "variant"]  # of a row's published numbers


class Printed(BaseModel, extra="forbid"):
    """One published table."""

    table: str  # name in results/paper
    title: str
    columns: str | list[tuple[str, str, str]]
    source: str = "paper"
    costs: bool = False  # no best step

    def all(self) -> list[Column]:
        """Its columns."""
        return [Column(*c) for c in (TASK_SETS[self.columns] if isinstance(self.columns, str) else self.columns)]


class Page(BaseModel, extra="forbid"):
    """A page of published tables."""

    title: str
    about: str
    parts: list[Printed]
    whole: bool = False
    notes: list[str] = []


class Pages(BaseModel, extra="forbid"):
    """`results/paper/pages.yaml`."""

    about: str
    variants: str
    packaged: str
    claims: str
    elsewhere: str
    pages: dict[str, Page]


@dataclass(frozen=True)
class Section:
    """A table: its cells, row by row, with published numbers beside ours.

    `cells` has a row for each row and column of the table, with the columns of `cells.summarise`, `column` (its title),
    `row` (number), `label` (title, and budget if there are several), `paper`, `params`, `paper_table` and `difference`.
    """

    title: str
    model: str
    columns: Sequence[Column]
    cells: pd.DataFrame
    runs: pd.DataFrame  # of all rows, one row per run, with its `row` and `label`
    source: str | None = None  # of the published numbers; None if there are none
    costs: bool = False
    comparable: bool = True
    subset: bool | None = False  # None: the official row counts aren't known

    def filled(self, run: bool = False) -> pd.DataFrame:
        """The cells that have a number, ours or published; with `run`, only those that have one of ours."""
        known = self.cells["n"].notna() | (self.cells["paper"].notna() & (not run))
        found = self.cells[known]
        return self.cells[self.cells["row"].isin(found["row"]) & self.cells["column"].isin(found["column"])]


@dataclass(frozen=True)
class Document:
    """A page: its tables, what stands above them, and notes."""

    title: str
    about: Sequence[str]
    sections: Sequence[Section]
    notes: Sequence[str]

    @property
    def run(self) -> bool:
        """Whether it shows any run."""
        return any(len(section.runs) for section in self.sections)


@dataclass(frozen=True)
class Findings:
    """All runs below some roots, the pages that show them, and the verdicts over them."""

    frame: pd.DataFrame
    texts: Pages
    documents: Mapping[str, Document]
    verdicts: Sequence[Verdict]
    elsewhere: Sequence[tuple[str, list[Verdict]]]  # on other backbones, by what the runs have in common
    skipped: Sequence[str]
    warnings: Sequence[str]


def gather(*roots: Path) -> Findings:
    """Read all results below the roots and sort them. Records of a study are also judged by its claims.

    Args:
        roots: run folders, folders of records, or folders of studies.

    Raises:
        UserError: a folder is missing or has no runs, or published numbers can't be read.
    """
    frame, skipped = read(*roots)
    if frame.empty:
        note = f" ({len(skipped)} skipped, the first {skipped[0]})" if skipped else ""
        raise UserError(f"{', '.join(map(str, roots))} holds no finished run for a table{note}: run train.py first")
    folders = dict.fromkeys(folder for root in roots for folder in (root.resolve(), root.resolve().parent))
    return findings(frame, skipped, [read_study(folder) for folder in folders if (folder / STUDY).is_file()])


def findings(frame: pd.DataFrame, skipped: Sequence[str], studies: Sequence[Study]) -> Findings:
    """Sort runs into pages, and judge the papers' claims and those of studies by them. Raises `UserError`."""
    paper, claims, texts = read_paper(), read_claims(PAPER), read_yaml(PAPER / "pages.yaml", Pages)
    ours, others = frame[frame["applies"]], frame[~frame["applies"]]
    cells = summarise(ours, [column for page in texts.pages.values() for part in page.parts for column in part.all()])
    left = [f"Left out: {len(skipped)} result.json, {'; '.join(skipped)}."] if skipped else []
    documents: dict[str, Document] = {}
    warned: list[str] = []
    for name, page in texts.pages.items():
        sections = [beside(page, part, ours, cells, paper) for part in page.parts]
        lines = warned_of(sections)
        warned += lines
        about = [page.about] if all(part.costs for part in page.parts) else [texts.about, page.about]
        documents[name] = Document(page.title, about, sections, [*page.notes, texts.variants, *lines, *left])
    sections = packaged(others)
    lines = warned_of(sections)
    lines += [line for study in studies for line in collapsed_runs(others, study)]
    title = "Runs that the papers' numbers don't apply to"
    documents["packaged"] = Document(title, [texts.packaged, texts.about], sections, [*lines, *left])
    own = [claim for study in studies for claim in read_claims(study.folder)]
    scored = [*own, *(claim for claim in claims if claim.kind == "scores")]
    elsewhere = judge_elsewhere(own, ours) + judge_elsewhere(scored, others)
    warnings = [*(f"skipped {line}" for line in skipped), *dict.fromkeys([*warned, *lines])]
    return Findings(frame, texts, documents, judge(claims, ours, paper), elsewhere, skipped, warnings)


def warned_of(sections: Sequence[Section]) -> list[str]:
    """The warnings about the runs of some sections."""
    return list(dict.fromkeys(line for section in sections for line in warnings_of(section.runs)))


def beside(page: Page, part: Printed, ours: pd.DataFrame, cells: pd.DataFrame, paper: Paper) -> Section:
    """A published table: our runs of its rows (or of all rows, if the page is `whole`), and its rows without runs."""
    columns, published = part.all(), paper.get(part.table, {})
    printed = published_frame(published)[KEY].drop_duplicates()
    tasks = [column.task for column in columns]
    runs = ours[ours["task"].isin(tasks)]
    known = cells[cells["task"].isin(tasks)]
    differences = contrasts(runs, known, [pair for pair in CONTRASTS.values() if pair in set(printed["variant"])])
    known = pd.concat([known if page.whole else known.merge(printed, on=KEY), differences.merge(printed, on=KEY)])
    every = printed.merge(known[KEY].drop_duplicates(), how="left", on=KEY, indicator=True)
    missing = [named(*key) for key in every.loc[every["_merge"] == "left_only", KEY].itertuples(index=False)]
    rows = pd.concat([known[ROW].drop_duplicates(), pd.DataFrame(missing, columns=ROW)])
    used = known.merge(pd.DataFrame(columns, columns=["task", "metric", "column"]), on=["task", "metric"])
    model = model_of(tasks[0])
    return section(
        f"{part.title}, {model}", model, columns, rows, known, runs[runs["path"].isin(set().union(*used["paths"]))],
        published_frame(scores(paper) if page.whole else published), source=part.source, costs=part.costs,
    )  # fmt: skip


def named(method: str, budget: str, variant: Variant | Difference) -> tuple[Any, ...]:
    """A printed row that has no run of ours, with its name and title."""
    if isinstance(variant, frozenset):
        return method, budget, describe(variant), title_of(method, variant), variant
    name = minus(*map(describe, variant))
    return method, budget, name, title_of(method, frozenset(), name), variant


def section(
    title: str, model: str, columns: Sequence[Column], rows: pd.DataFrame, cells: pd.DataFrame, runs: pd.DataFrame,
    published: pd.DataFrame, **more: Any,
) -> Section:  # fmt: skip
    """Arrange cells in rows and columns, with published numbers beside them."""
    order = sorted(rows.to_dict("records"), key=lambda row: position((row["method"], row["budget"], row["name"])))
    sized = {row["budget"] for row in order} - {"any"}
    table = pd.DataFrame(order, columns=ROW).assign(row=range(len(order)))
    several = (table["budget"] != "any") & (len(sized) > 1)
    table["label"] = table["title"] + (", " + table["budget"]).where(several, "")
    table = table.merge(pd.DataFrame(columns, columns=["task", "metric", "column"]), how="cross")
    table = table.merge(cells, how="left", on=CELL)
    table = table.merge(published, how="left", on=["task", "metric", *KEY])
    table["difference"] = table["median_last"] - table["paper"]
    names = table.drop_duplicates("row")[["method", "budget", "name", "row", "label"]]
    return Section(
        title, model, columns, table, heads(runs).merge(names, how="left", on=["method", "budget", "name"]), **more
    )


def published_frame(cells: Mapping[Key, Published]) -> pd.DataFrame:
    """Published numbers as a frame."""
    rows = [(*key, cell.value, cell.params, cell.table) for key, cell in cells.items()]
    return pd.DataFrame(rows, columns=["task", "metric", *KEY, "paper", "params", "paper_table"]).astype(
        {"paper": float}
    )


def packaged(frame: pd.DataFrame) -> list[Section]:
    """One table per model, task or set of tasks, and official or other row counts."""
    sets = {column.task: name for name, columns in TASK_SETS.items() for column in columns}
    own = frame["task"].map(lambda task: sets.get(task, task)).rename("set")
    groups = frame.groupby(["model", own, "subset", "comparable"], dropna=False)
    sections = []
    for (model, name, subset, comparable), runs in sorted(groups, key=lambda item: tuple(map(str, item[0]))):
        title = f"{name}, {model}{', NOT the official row counts' if runs['rows'].any() else ''}"
        title += "" if comparable or model not in MODELS else ", other architecture"
        columns = TASK_SETS.get(name) or columns_of(runs)
        cells = summarise(runs, columns)
        sections.append(section(
            title, model, columns, cells[ROW].drop_duplicates(), cells, runs, published_frame({}),
            comparable=comparable, subset=None if pd.isna(subset) else bool(subset),
        ))  # fmt: skip
    return sections


def columns_of(runs: pd.DataFrame) -> list[Column]:
    """The columns of a task that isn't in a paper: its metrics on each evaluation split, headline first."""
    task = runs["result"].iloc[0].task
    names = dict.fromkeys([*runs["headline"], *runs["metric"]])
    metrics = task.get("metrics", [task["headline"]])
    own = [name for name in names if any(name == each or name.startswith(f"{each}_") for each in metrics)]
    return [Column(task["name"], name, f"{task['name']} {name}") for name in own]


def collapsed_runs(frame: pd.DataFrame, study: Study) -> list[str]:
    """A line that names a study's collapsed runs, if there are any."""
    runs = heads(frame)
    found = runs[collapsed(runs, study.constants)].sort_values("seed").groupby(["task", "title"])["seed"]
    named = [f"{title} on {study.tasks[task].title} with seed {', '.join(map(str, s))}" for (task, title), s in found]
    about = "collapsed, closer to a constant prediction than to the median of the task"
    return [f"{about}: {'; '.join(named)}"] if named else []
