"""docs/evidence.md: what has been measured of AdaLoRA and its family, and by whom, from `results/paper/family`.

The template `page.md.j2` there has the `Evidence`.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, Field, FiniteFloat, model_validator

from adalora.errors import UserError
from adalora.files.reading import adapter, read_yaml, reason
from adalora.files.writing import READ_ONLY, write_text
from adalora.options import as_number
from adalora.paths import PAPER, RESULTS
from adalora.records.published import DATASETS, MODEL, factor
from adalora.records.published import read as read_published
from adalora.records.studies import read_studies
from adalora.reporting import figures
from adalora.reporting.claims import read_claims
from adalora.reporting.columns import GLUE, title_of
from adalora.reporting.filling import fill
from adalora.reporting.frame import heads, read
from adalora.reporting.study import PAGE, records
from adalora.reporting.tables import millions

FAMILY = PAPER / "family"
ISSUES, COMPARISONS = "issues.csv", "comparisons.yaml"
GLUE_NAMES = {name for name, task in DATASETS.items() if task in {column.task for column in GLUE}}
SIZES = (0.2e6, 0.5e6)  # adapter parameters of "about 0.3M"
GROUPS = {"encoder": "encoders", "decoder": "decoders", "generation": "generation", "other": "vision and control"}


class Number(BaseModel, extra="forbid"):
    """A published number, as its source prints it."""

    table: str
    model: str
    dataset: str
    metric: str
    method: str
    budget_label: str
    params: str
    value: FiniteFloat
    std: str = ""
    seeds: str = ""  # as stated; empty: not stated
    source: str
    verified: Literal["yes", "secondary", "derived"]
    origin: Literal["own", "re-run", "copied", "quoted", "derived", "unclear"]
    copied_from: str = ""
    note: str = ""

    @model_validator(mode="after")
    def check(self) -> "Number":
        if self.origin in ("copied", "quoted") and not self.copied_from:
            raise ValueError(f"{self.table}, {self.method}, {self.dataset}: {self.origin} from what?")
        return self


class Pair(BaseModel, extra="forbid"):
    """AdaLoRA and LoRA, run by the same people (`comparisons.yaml`)."""

    what: str
    by: str
    group: Literal["encoder", "decoder", "generation", "other"]
    table: str
    model: str
    datasets: Annotated[list[str], Field(min_length=1)]
    metrics: list[str] = []  # all
    lora: dict[str, str]  # values of columns
    adalora: dict[str, str]
    scale: float = 1.0  # to percent
    seeds: str = "not stated"
    confound: str = ""
    broken: str = ""


@dataclass(frozen=True)
class Compared:
    """A pair with its scores: means over the datasets, each by its first metric."""

    pair: Pair
    lora: float
    adalora: float
    std: float | None  # of the difference between two single runs, if the source prints standard deviations
    params: tuple[str, str]  # as printed
    verified: bool  # whether all of its numbers are

    @property
    def difference(self) -> float:
        return self.adalora - self.lora


@dataclass(frozen=True)
class Measured:
    """A comparison that this suite has run: AdaLoRA - LoRA."""

    what: str
    unit: str
    difference: float
    interval: tuple[float, float] | None
    seeds: int
    collapsed: int  # runs
    folder: str  # of the study, below results


@dataclass(frozen=True)
class GlueRow:
    """A row of GLUE's eight tasks on DeBERTaV3-base."""

    method: str
    table: str
    params: str
    first: float  # mean of the eight first metrics
    within: float | None  # mean of the tasks' means over their metrics, if both of MNLI and QQP are printed
    origin: str
    copied_from: str
    verified: bool


def family(folder: Path = FAMILY) -> pd.DataFrame:
    """The numbers of the family and of third parties, one row per number with its file.

    Raises:
        UserError: a file can't be read, or a row isn't valid.
    """
    paths = sorted(path for path in folder.glob("*.csv") if path.name != ISSUES)
    return pd.concat([frame_of(path, read_published(path)) for path in paths], ignore_index=True)


def papers(folder: Path = PAPER) -> pd.DataFrame:
    """AdaLoRA's and IncreLoRA's own tables in the same form: baselines are their authors' runs in AdaLoRA's, and copied
    in IncreLoRA's (`results/paper/README.md`)."""
    found = []
    for name, own in (("adalora", "AdaLoRA"), ("increlora", "IncreLoRA")):
        path = folder / f"{name}_tables.csv"
        rows = [row for row in read_published(path) if as_number(row["value"]) is not None]
        for row in rows:
            run = row["method"].startswith(own) and "re-run" not in row["method"]
            copied = own == "IncreLoRA" and row["table"] == "IncreLoRA-T1" and not run
            row["origin"] = "own" if run else "copied" if copied else "re-run"
            row["copied_from"] = "arXiv 2303.10512 Table 1" if copied else ""
        found.append(frame_of(path, rows))
    return pd.concat(found, ignore_index=True)


def frame_of(path: Path, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Check rows, and return them with the name of their file. Raises `UserError`."""
    try:
        numbers = adapter(list[Number]).validate_python(rows)
    except ValueError as error:
        raise UserError(f"{path}: {reason(error)}: correct it") from error
    return pd.DataFrame([number.model_dump() for number in numbers]).assign(file=path.name)


def averages(cells: pd.DataFrame) -> tuple[float, float | None]:
    """The mean over datasets, in both conventions: of each one's first metric, and of each one's mean over its metrics.

    The papers that copy AdaLoRA's Table 1 print the first, Table 1 prints the second. It is None if no dataset has two
    metrics.
    """
    by = cells.groupby("dataset", sort=False)["value"]
    several = by.size().max() > 1
    first, within = (round(float(values.mean()), 6) for values in (by.first(), by.mean()))  # 89.025, not 89.02499...
    return first, within if several else None


def cells_of(numbers: pd.DataFrame, pair: Pair, side: Mapping[str, str]) -> pd.DataFrame:
    """The cells of one side. Raises `UserError` unless there is one for every dataset."""
    found = numbers[(numbers["table"] == pair.table) & (numbers["model"] == pair.model)]
    found = found[found["dataset"].isin(pair.datasets) & (found["metric"].isin(pair.metrics) | (not pair.metrics))]
    for column, value in side.items():
        found = found[found[column] == value]
    if set(found["dataset"]) != set(pair.datasets) or found.duplicated(["dataset", "metric"]).any():
        raise UserError(f"{FAMILY / COMPARISONS}: {pair.by}, {pair.what}: {dict(side)} doesn't have one cell a dataset")
    return found


def compare(numbers: pd.DataFrame, pair: Pair) -> Compared:
    """The scores of a pair. Raises `UserError` if one has no numbers."""
    sides = [cells_of(numbers, pair, side) for side in (pair.lora, pair.adalora)]
    lora, adalora = (pair.scale * averages(cells)[0] for cells in sides)
    firsts = pd.concat([cells.drop_duplicates("dataset") for cells in sides])
    printed = all(firsts["std"])
    std = pair.scale * math.sqrt((firsts["std"].astype(float) ** 2).sum()) / len(pair.datasets) if printed else None
    params = tuple(" or ".join(map(printed_size, cells["params"].unique())) for cells in sides)
    verified = not firsts["verified"].eq("secondary").any()
    return Compared(pair, lora, adalora, std, (params[0], params[1]), verified)


def printed_size(params: str) -> str:
    """A number of parameters as papers print it."""
    return millions(int(params)) if params.isdecimal() else params or "not printed"


def measured(root: Path = RESULTS) -> list[Measured]:
    """AdaLoRA - LoRA in the complete studies of this suite: the comparison of each one's first claim."""
    found = []
    for name, study in read_studies(root).items():
        if name != study.folder.name:
            continue
        claims = read_claims(study.folder)
        runs, _ = records(study, name, claims)
        if not runs.complete or not claims:
            continue
        verdict, collapsed = runs.verdicts[claims[0].id], runs.collapsed().sum().groupby("title").sum()
        pairs = list(claims[0].pairs())
        if len(verdict.comparisons) != len(pairs):
            continue  # several tasks, each by itself, have no single difference
        for (one, other), part in zip(pairs, verdict.comparisons, strict=True):
            if (one.method, other.method) == ("adalora", "lora") and part.found is not None:
                tasks = ", ".join(study.tasks[task].title for task in part.tasks)
                unit = "points" if factor(runs.runs["headline"].iloc[0]) == 100 else "bits per byte, lower is better"
                count = sum(int(collapsed.get(title_of(side.method, side.variant), 0)) for side in (one, other))
                what = f"{runs.runs['model'].iloc[0]}: {tasks}"
                found.append(Measured(what, unit, part.found.mean, part.found.interval, len(runs.seeds), count, name))
    return found


def parse_size(params: str) -> float | None:
    """A number of parameters as printed, such as `~0.32M nominal`."""
    match = re.search(r"([\d.]+)M", params)
    return 1e6 * float(match[1]) if match else None


def glue_rows(numbers: pd.DataFrame) -> list[GlueRow]:
    """Every row with all of GLUE on DeBERTaV3-base at about 0.3M parameters, the best first; secondary ones last."""
    found = []
    here = numbers[(numbers["model"] == MODEL) & numbers["dataset"].isin(GLUE_NAMES)]
    for (table, method, _, params), cells in here.groupby(["table", "method", "budget_label", "params"], sort=False):
        size = parse_size(str(params))
        if size is None or not SIZES[0] <= size <= SIZES[1] or set(cells["dataset"]) != GLUE_NAMES:
            continue
        origins, sources = (sorted(set(cells[name]) - {""}) for name in ("origin", "copied_from"))
        first, within = averages(cells)
        verified = not cells["verified"].eq("secondary").any()
        found.append(
            GlueRow(str(method), str(table), params, first, within, " and ".join(origins), "; ".join(sources), verified)
        )
    return sorted(found, key=lambda row: (not row.verified, -row.first))


def own_glue(root: Path) -> list[GlueRow]:
    """This suite's runs on DeBERTaV3-base at 0.3M: a row for each method that has all eight tasks, medians of seeds."""
    frame = read(root)[0] if root.is_dir() else pd.DataFrame()
    if frame.empty:
        return []
    runs = frame[frame["applies"] & (frame["budget"] == "0.3M") & (frame["variant"] == frozenset())]
    found = []
    for title, mine in runs.groupby("title"):
        cells = [mine[(mine["task"] == c.task) & (mine["metric"] == c.metric)]["last"].median() for c in GLUE]
        values = pd.DataFrame({"dataset": [c.task for c in GLUE], "value": cells})
        if values["value"].notna().all():
            first, within = averages(values)
            params = millions(heads(mine)["kept"].median())
            found.append(GlueRow(str(title), "this suite", params, first, within, "re-run", "", True))
    return found


class Evidence:
    """Everything that the page shows. Raises `UserError` if a file is missing or isn't valid.

    Args:
        runs: a run root, for runs on DeBERTaV3-base; None: committed records only.
    """

    def __init__(self, runs: Path | None) -> None:
        self.numbers = family()
        self.issues = pd.read_csv(FAMILY / ISSUES, dtype=str, keep_default_na=False)
        self.measured = measured()
        every = pd.concat([papers(), self.numbers], ignore_index=True)
        self.glue = [*glue_rows(every), *(own_glue(runs) if runs else [])]
        compared = [compare(every, pair) for pair in read_yaml(FAMILY / COMPARISONS, list[Pair])]
        self.broken = [each for each in compared if each.pair.broken]
        self.secondary = [each for each in compared if not each.verified and not each.pair.broken]
        self.compared = [each for each in compared if each.verified and not each.pair.broken]

    @cached_property
    def others(self) -> list[Compared]:
        """What others than AdaLoRA's authors have compared."""
        return [each for each in self.compared if each.pair.by != "AdaLoRA"]

    @property
    def groups(self) -> Iterator[tuple[str, list[Compared]]]:
        """The verified comparisons by group."""
        for group, title in GROUPS.items():
            yield title, [each for each in self.compared if each.pair.group == group]

    def medians(self) -> dict[str, tuple[int, float]]:
        """The number of comparisons and the median difference of each group of authors."""
        names = dict.fromkeys(each.pair.by for each in self.compared)
        parts = {name: [each.difference for each in self.compared if each.pair.by == name] for name in names}
        return {name: (len(values), median(values)) for name, values in parts.items()}

    def forest(self) -> figures.Figure:
        """All verified differences in points; an interval is the printed standard deviation, or our runs' 95 %."""
        lines = []
        for title, part in self.groups:
            lines.append(figures.Difference(title.upper(), math.nan, None))
            for each in part:
                name = f"{each.pair.by}: {each.pair.model}, {each.pair.what}"
                interval = None if each.std is None else (each.difference - each.std, each.difference + each.std)
                lines.append(figures.Difference(name, each.difference, interval, whole=each.pair.by == "AdaLoRA"))
        lines.append(figures.Difference("THIS SUITE", math.nan, None))
        lines += [
            figures.Difference(each.what, each.difference, each.interval)
            for each in self.measured if each.unit == "points"
        ]  # fmt: skip
        return figures.forest({"AdaLoRA - LoRA, points": lines})


def write_evidence(runs: Path | None, out: Path) -> list[Path]:
    """Write `evidence.md` and its figure into a folder. Raises `UserError`."""
    found = Evidence(runs)
    text = fill(FAMILY / PAGE, found=found)
    figures.save(found.forest(), out / "evidence.svg", READ_ONLY)
    write_text(out / "evidence.md", text, READ_ONLY)
    return [out / "evidence.md", out / "evidence.svg"]
