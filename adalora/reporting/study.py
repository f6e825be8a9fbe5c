"""The pages of a study, made from its records: README.md from the template `page.md.j2` in its folder, and the usual
table, claims and report.

The template has `study`, a `Records` for the name of each grid, and `evaluations`. It draws figures with
`draw(name, figure)`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from adalora.errors import UserError
from adalora.files.writing import READ_ONLY, write_text
from adalora.options import as_number, written
from adalora.records.evaluation import Evaluation, read_evaluations
from adalora.records.published import factor, size_of
from adalora.records.studies import Study, read_study
from adalora.reporting import figures
from adalora.reporting.claims import FILE, Claim, read_claims
from adalora.reporting.columns import title_of
from adalora.reporting.curves import Logs, over_seeds, rank_grids
from adalora.reporting.filling import fill
from adalora.reporting.frame import SETTING, collapsed, frame_of, heads, read
from adalora.reporting.pages import findings
from adalora.reporting.report import commits, write_report
from adalora.reporting.tables import write_tables
from adalora.reporting.verdicts import Comparison, Verdict, judge
from adalora.statistics.over_tasks import Estimate, mean_correlation
from adalora.statistics.seeds import Interval, ratio_interval

PAGE = "page.md.j2"


@dataclass(frozen=True)
class Records:
    """The recorded runs of a grid. Statistics are over `frame`, the runs of seeds that have every cell.

    `scores` has the headline metric at the last step in percent: one row per seed, columns (task, title of the method).
    """

    study: Study
    planned: Sequence[int]  # seeds
    wanted: int  # number of runs
    recorded: pd.DataFrame  # every run
    frame: pd.DataFrame
    verdicts: Mapping[str, Verdict]  # by claim
    logs: Logs

    @cached_property
    def all(self) -> pd.DataFrame:
        """Every recorded run, one row per run."""
        return heads(self.recorded)

    @property
    def seeds(self) -> list[int]:
        """The seeds that have every cell."""
        return sorted(self.frame["seed"].unique())

    @property
    def complete(self) -> bool:
        """Whether all planned seeds have every cell, as a protocol's tests require."""
        return len(self.seeds) == len(self.planned)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs of complete seeds, by seed."""
        return heads(self.frame).sort_values("seed")

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The scores, by seed and (task, title)."""
        return self.runs.pivot(index="seed", columns=["task", "title"], values="last")

    def values(self, metric: str) -> pd.DataFrame:
        """As `scores`, of another metric."""
        runs = self.frame[self.frame["metric"] == metric]
        return runs.pivot(index="seed", columns=["task", "title"], values="last")

    @property
    def hours(self) -> float:
        """Of all recorded runs."""
        return self.all["seconds"].sum() / 3600

    def of(self, title: str, task: str) -> pd.DataFrame:
        """The runs of a cell."""
        return self.runs[(self.runs["title"] == title) & (self.runs["task"] == task)]

    def rate(self, title: str, task: str) -> float:
        """The learning rate of a cell."""
        return self.of(title, task)["options"].iloc[0]["training.lr"]

    def rates(self, title: str, task: str, metric: str | None = None) -> pd.DataFrame:
        """A metric (default: the headline) of a cell, one row per learning rate and one column per seed."""
        runs = self.recorded[self.recorded["metric"] == (metric or self.recorded["headline"])]
        cell = runs[(runs["title"] == title) & (runs["task"] == task)]
        rates = cell["options"].map(lambda options: options["training.lr"])
        return cell.assign(rate=rates).pivot(index="rate", columns="seed", values="last")

    @property
    def tried(self) -> list[float]:
        """The learning rates of all recorded runs."""
        return sorted({options["training.lr"] for options in self.all["options"]})

    def tuned(self, title: str, task: str) -> dict[float, float]:
        """The mean score of each learning rate of a cell, over all recorded runs."""
        return self.rates(title, task).mean(axis=1).to_dict()

    def rate_means(self, title: str, task: str, worst: float, metric: str | None = None) -> pd.Series:
        """The mean of a metric (default: the headline) by learning rate, of rates that have every seed's score and none
        above `worst`."""
        scores = self.rates(title, task)
        kept = scores[scores.max(axis=1) <= worst].dropna().index
        return self.rates(title, task, metric).loc[kept].mean(axis=1)

    def best_rate(self, title: str, task: str, worst: float) -> tuple[float, float]:
        """The learning rate with the lowest mean score, and what the better of its two neighbours loses, among those of
        `rate_means`."""
        means = self.rate_means(title, task, worst)
        place = int(means.argmin())
        beside = means.iloc[[i for i in (place - 1, place + 1) if 0 <= i < len(means)]]
        return float(means.index[place]), float(beside.min() - means.iloc[place])

    def at_equal(self, title: str, other: str, task: str, metric: str, worst: float) -> pd.DataFrame:
        """One row per learning rate of method `title`: its mean `score`, its mean of another `metric`, and `equal`, the
        score of method `other` at the same mean of that metric. `equal` is interpolated linearly between the rates of
        `other`; rows out of its range are left out."""
        scores, metrics = (self.rate_means(title, task, worst, each) for each in (None, metric))
        others = self.rate_means(other, task, worst, metric).sort_values()
        known = self.rate_means(other, task, worst)[others.index]
        equal = np.interp(metrics, others, known, left=np.nan, right=np.nan)
        return pd.DataFrame({"score": scores, "metric": metrics, "equal": equal}).dropna()

    def difference(self, title: str, other: str) -> pd.DataFrame:
        """The score of one method minus that of another, by seed and task."""
        return self.scores.xs(title, axis=1, level="title") - self.scores.xs(other, axis=1, level="title")

    def collapsed(self) -> pd.DataFrame:
        """Which runs collapsed (`frame.collapsed`), by seed and (task, title)."""
        runs = self.runs.assign(collapsed=collapsed(self.runs, self.study.constants))
        return runs.pivot(index="seed", columns=["task", "title"], values="collapsed")

    def without_collapsed(self, title: str, other: str) -> tuple[float, int, int]:
        """The mean over tasks of the mean difference, without pairs that have a collapsed run; its tasks and pairs."""
        out = self.collapsed()
        left = self.difference(title, other).mask(
            out.xs(title, axis=1, level="title") | out.xs(other, axis=1, level="title")
        )
        return float(left.mean().mean()), int(left.notna().any().sum()), int(left.count().sum())

    def over_rows(self, title: str, other: str, task: str, split: str) -> Interval:
        """The interval of a difference in bits per byte that resamples the rows of a split, with bits averaged over the
        common seeds."""
        one, two = (self.of(each, task).set_index("seed")["result"] for each in (title, other))
        bits = [one[seed].rows[split]["bits"] - np.array(two[seed].rows[split]["bits"]) for seed in one.index]
        return ratio_interval(np.mean(bits, axis=0), one.iloc[0].rows[split]["bytes"])

    def parameters(self, title: str, count: str) -> str:
        """The adapter parameters of a method's runs, as a number or a range. `count`: peak or kept."""
        found = self.runs.loc[self.runs["title"] == title, count]
        return f"{found.min():,}" if found.min() == found.max() else f"{found.min():,} to {found.max():,}"

    def ranks(self, title: str, task: str) -> pd.DataFrame:
        """The final ranks of a cell: one row per module, one column per seed."""
        return pd.DataFrame({run.seed: run.ranks for run in self.of(title, task)["result"]})

    def agreement(self, title: str, task: str) -> Estimate:
        """Agreement of the final ranks between seeds. Raises `ValueError` for a single seed."""
        ranks = self.ranks(title, task)
        return mean_correlation([ranks[seed].to_numpy() for seed in ranks])

    def across(self, title: str, one: str, other: str) -> float:
        """Spearman's correlation of two tasks' mean final ranks."""
        return mean_correlation([self.ranks(title, task).mean(axis=1).to_numpy() for task in (one, other)]).value

    def heat_map(self, title: str, task: str) -> Figure:
        """The mean final ranks of a cell, layer by module."""
        (grid,) = rank_grids(self.of(title, task)).values()
        return figures.heat_map(grid)

    def mean_ranks(self, title: str, task: str) -> dict[str, float]:
        """The mean final rank of each kind of module."""
        grids = rank_grids(self.of(title, task)).values()
        return pd.concat(grids).mean().to_dict()

    def evaluated(self, title: str, task: str, evaluations: Sequence[Evaluation], other: str) -> dict[int, Evaluation]:
        """The evaluations of a cell's runs on another task, by seed."""
        keys = {run.key: run.seed for run in self.of(title, task)["result"]}
        return {keys[str(each.run)]: each for each in evaluations if each.run in keys and each.task["name"] == other}

    def step_seconds(self, title: str, task: str) -> float:
        """Seconds per step including evaluations, median over the seeds."""
        runs = self.of(title, task)
        return (runs["seconds"] / runs["steps"]).median()

    def step_ratio(self, title: str, other: str, task: str) -> float:
        """Seconds of one method divided by those of another, median over the seeds."""
        one, two = (self.of(each, task).set_index("seed")["seconds"] for each in (title, other))
        return (one / two).median()

    def forest(self, panels: Mapping[str, str], whole: str) -> Figure:
        """The differences of claims: a panel for each, and below its tasks the mean over all.

        Args:
            panels: what is subtracted, by the claim that has its tasks.
            whole: the claim over all tasks, with a comparison for each panel.
        """
        lines = {}
        for (claim, other), over in zip(panels.items(), self.verdicts[whole].comparisons, strict=True):
            title = self.verdicts[claim].comparisons[0].sides
            pairs = self.difference(title.removesuffix(f" - {other}"), other)
            parts = [(self.study.tasks[part.tasks[0]].title, part) for part in self.verdicts[claim].comparisons]
            lines[f"{title}, points"] = [
                figures.Difference(
                    name, part.found.mean, part.found.interval, [] if part is over else list(pairs[part.tasks[0]]),
                    part is over,
                )
                for name, part in [*parts, ("mean of the tasks", over)]
                if part.found is not None
            ]  # fmt: skip
        return figures.forest(lines)

    def differences(self, label: str, name: Callable[[Comparison], str], margin: float) -> Figure:
        """The differences of all claims, a line per comparison, shaded within the margin."""
        lines = [
            figures.Difference(name(part), part.found.mean, part.found.interval)
            for verdict in self.verdicts.values()
            for part in verdict.comparisons
            if part.found is not None
        ]
        return figures.forest({label: lines}, margin)

    def over_rates(
        self, names: Mapping[str, str], task: str, metric: str, worst: float, labels: Sequence[str]
    ) -> Figure:
        """Two panels: the score over the learning rate with the seeds' range, and another metric over the score. Rates
        with a score above `worst` aren't drawn. `names` has a name by title, `labels` those of both metrics."""
        left, right = [], []
        for title, name in names.items():
            scores = self.rates(title, task)
            scores = scores[scores.max(axis=1) <= worst]
            others = self.rates(title, task, metric).loc[scores.index].mean(axis=1)
            points = {"x": scores.index, "mean": scores.mean(axis=1), "low": scores.min(axis=1),
                      "high": scores.max(axis=1), "name": name}  # fmt: skip
            left.append(pd.DataFrame(points))
            right.append(pd.DataFrame({"x": scores.mean(axis=1), "mean": others, "name": name}))
        return figures.rate_curves(pd.concat(left), pd.concat(right), list(names.values()), labels)

    def curves(self, titles: Sequence[str]) -> Figure:
        """The mean score of every evaluation over minutes: a panel a task."""
        panels = {}
        for name, task in self.study.tasks.items():
            lines = []
            for title in titles:
                runs = self.of(title, name)
                headline = runs["headline"].iloc[0]
                points = over_seeds(self.logs.of(runs, "metrics.jsonl"), f"eval/{headline}", factor(headline))
                minutes = points["x"] * self.step_seconds(title, name) / 60
                lines.append(points.assign(x=minutes, low=points["mean"], high=points["mean"], name=title))
            panels[task.title] = pd.concat(lines)
        return figures.curves(panels, titles, "minutes", "")


def records(study: Study, name: str, claims: Sequence[Claim]) -> tuple[Records, list[str]]:
    """The records of a grid, and a line for each that is skipped: it is invalid, isn't of the grid, differs in setting
    or options from most runs of its cell, or repeats a cell and seed."""
    grid, folder = study.grids[name], study.records(name)
    frame, skipped = read(folder) if folder.is_dir() else (frame_of([]), [])
    runs, cells = heads(frame), grid.cells()
    found = pd.Series([next((i for i, c in enumerate(cells) if of_cell(run, c)), None) for run in runs.itertuples()])
    found.index = runs.index
    strange = runs[found.isna() | ~runs["seed"].isin(grid.seeds)]
    counted = runs.assign(cell=found).drop(strange.index)
    counted["setting"] = list(map(str, counted[[*SETTING, "options"]].to_dict("records")))
    usual = counted.groupby("cell")["setting"].agg(lambda same: same.mode()[0])
    unlike = counted[counted["setting"] != counted["cell"].map(usual)]
    counted = counted.drop(unlike.index)
    twice = counted[counted.duplicated(["cell", "seed"])]
    skipped = [*skipped, *(f"{path.name}: it isn't a run of {name}" for path in strange["path"])]
    also = "its options, data, precision or length aren't those of the other runs of its cell"
    skipped += [f"{path.name}: {also}" for path in unlike["path"]]
    skipped += [f"{path.name}: its cell has another record" for path in twice["path"]]
    counted = counted.drop(twice.index)
    frame = frame[frame["path"].isin(counted["path"])].copy()
    frame["title"] = [  # without options of training: a grid's rates don't make methods
        title_of(method, frozenset(option for option in own if option[0].startswith("method.")))
        for method, own in zip(frame["method"], frame["own"], strict=True)
    ]
    return complete(study, grid.seeds, len(cells), frame, claims), [f"skipped {line}" for line in skipped]


def of_cell(run: Any, cell: Sequence[str]) -> bool:
    """Whether a run has a cell's task, method and options, and no other options of the method."""
    given = dict(option.split("=", 1) for option in cell)
    if (run.task, run.method) != (given.get("task"), given.get("method")):
        return False
    budget = run.result.budget
    values = run.options | {"model": run.result.model["name"]}
    if budget["name"] != "any":  # a method without one ignores it
        values |= {"budget": budget["name"], "budget.params": budget["params"]}
    known = [(values[key], text) for key, text in given.items() if key in values]
    same = all(value in (size_of(text), as_number(text)) or written(value) == text for value, text in known)
    return same and all(key in given for key, _ in run.own if key.startswith("method."))


def complete(study: Study, seeds: Sequence[int], cells: int, frame: pd.DataFrame, claims: Sequence[Claim]) -> Records:
    """The seeds that have all cells, and the verdicts over them."""
    found = heads(frame).groupby("seed").size()
    whole = frame[frame["seed"].isin(found.index[found == cells])]
    verdicts = {verdict.claim.id: verdict for verdict in judge(claims, whole, None)}
    return Records(study, seeds, cells * len(seeds), frame, whole, verdicts, Logs())


def write_pages(folder: Path) -> tuple[list[Path], list[str]]:
    """Write all pages of the study in `folder`. The claims and the report are written only if every planned seed of
    the grid with the study's name has all cells; otherwise existing ones are removed.

    Returns:
        The files, and warnings.

    Raises:
        UserError: a file can't be read or written, or the template has a mistake.
    """
    study, claims = read_study(folder), read_claims(folder)
    for claim in claims:
        if unknown := sorted(set(claim.tasks) - study.tasks.keys()):
            raise UserError(f"{folder / FILE}: {claim.id} names the task {unknown[0]}, which study.yaml doesn't have")
    grids, lines = {}, []
    for name in study.grids:
        grids[name], warnings = records(study, name, claims)
        lines += warnings
    evaluations, faults = read_evaluations(folder)
    lines += faults
    text, drawn = render(study, grids, claims, evaluations)
    files = [folder / name for name in ("README.md", *drawn)]
    for name, figure in drawn.items():
        figures.save(figure, folder / name, READ_ONLY)
    write_text(files[0], text, READ_ONLY)
    main = grids[folder.resolve().name]
    if not main.complete:
        for name in ("claims.md", "claims.csv", "claims.tex", "report.html"):
            (folder / name).unlink(missing_ok=True)
    else:
        unrun = [name for name, verdict in main.verdicts.items() if not verdict.run]
        lines += [f"{name} has no run: check its methods, options, budgets and metrics" for name in unrun]
    if main.seeds:
        found = findings(main.recorded, [], [study])
        files += write_tables(found, folder, claims=main.complete)
        lines += found.warnings
        if main.complete:
            files.append(write_report(found, folder)[0])
    lines += [f"no curve of {fault}" for grid in grids.values() for fault in grid.logs.faults]
    return files, list(dict.fromkeys(lines))


def render(
    study: Study, grids: Mapping[str, Records], claims: Sequence[Claim], evaluations: Sequence[Evaluation] = ()
) -> tuple[str, dict[str, Figure]]:
    """README.md, and its figures by name. Raises `UserError` if the template has a mistake."""
    drawn: dict[str, Figure] = {}

    def draw(name: str, figure: Figure) -> str:
        if not re.fullmatch(r"[\w-]+\.svg", name) or not isinstance(figure, Figure):
            raise ValueError(f"draw needs a name as ranks.svg and a figure, not {name}")
        drawn[name] = figure
        return name

    def named(part: Comparison) -> str:
        titles = ", ".join(study.tasks[task].title for task in part.tasks)
        return f"{part.sides}, {f'mean of {titles}' if part.over else titles}"

    def merged(one: Records, other: Records) -> Records:
        frame = pd.concat([one.frame, other.frame[~other.frame["task"].isin(one.frame["task"].unique())]])
        cells = frame[["task", "title"]].drop_duplicates()
        return complete(study, one.planned, len(cells), frame, claims)

    text = fill(
        study.folder / PAGE, study=study, grids=grids, evaluations=evaluations, named=named, draw=draw, merged=merged,
        commits=commits, concat=pd.concat, pairs=lambda names: list(combinations(names, 2)),
    )  # fmt: skip
    return text, drawn
