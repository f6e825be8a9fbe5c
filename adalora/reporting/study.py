"""The pages of a study, made from its records: README.md from the template `page.md.j2` in its folder, and the usual
table, claims and report.

The template has `study`, and a `Records` for the name of each grid. It draws figures with `draw(name, figure)`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean, median, stdev

import pandas as pd
from jinja2 import Environment, StrictUndefined, TemplateError, TemplateSyntaxError
from matplotlib.figure import Figure

from adalora.errors import UserError
from adalora.files import READ_ONLY, write_text
from adalora.reading import read_text, reason
from adalora.reporting import figures
from adalora.reporting.claims import Claim, read_claims
from adalora.reporting.columns import title_of
from adalora.reporting.curves import Logs, over_seeds, rank_grids
from adalora.reporting.frame import collapsed, frame_of, heads, read
from adalora.reporting.pages import gather
from adalora.reporting.report import commits, write_report
from adalora.reporting.tables import probability, signed, span, write_tables
from adalora.reporting.verdicts import Part, Verdict, judge
from adalora.statistics.agreement import mean_correlation
from adalora.statistics.over_tasks import Estimate
from adalora.studies import Study, read_study

PAGE = "page.md.j2"


@dataclass(frozen=True)
class Records:
    """The recorded runs of a grid. Statistics are over `frame`, the runs of seeds that have every cell.

    `scores` has the headline metric at the last step in percent: a row a seed, columns (task, title of the method).
    """

    study: Study
    planned: Sequence[int]  # seeds
    wanted: int  # number of runs
    recorded: pd.DataFrame  # every run
    frame: pd.DataFrame
    verdicts: Mapping[str, Verdict]  # by claim

    @property
    def all(self) -> pd.DataFrame:
        """Every recorded run, a row a run."""
        return heads(self.recorded)

    @property
    def seeds(self) -> list[int]:
        """The seeds that have every cell."""
        return sorted(self.frame["seed"].unique())

    @property
    def complete(self) -> bool:
        """Whether all planned seeds have every cell, as a protocol's tests require."""
        return len(self.seeds) == len(self.planned)

    @property
    def runs(self) -> pd.DataFrame:
        """The runs of complete seeds, by seed."""
        return heads(self.frame).sort_values("seed")

    @property
    def scores(self) -> pd.DataFrame:
        """The scores, by seed and (task, title)."""
        return self.runs.pivot(index="seed", columns=["task", "title"], values="last")

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

    def tuned(self, title: str, task: str) -> dict[float, float]:
        """The mean score of each learning rate of a cell, over all recorded runs."""
        cell = self.all[(self.all["title"] == title) & (self.all["task"] == task)]
        return cell.groupby(cell["options"].map(lambda options: options["training.lr"]))["last"].mean().to_dict()

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

    def parameters(self, title: str, count: str) -> str:
        """The adapter parameters of a method's runs, as a number or a range. `count`: peak or kept."""
        found = self.runs.loc[self.runs["title"] == title, count]
        return f"{found.min():,}" if found.min() == found.max() else f"{found.min():,} to {found.max():,}"

    def ranks(self, title: str, task: str) -> pd.DataFrame:
        """The final ranks of a cell: a row a module, a column a seed."""
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
        for (claim, other), over in zip(panels.items(), self.verdicts[whole].parts, strict=True):
            title = self.verdicts[claim].parts[0].sides
            pairs = self.difference(title.removesuffix(f" - {other}"), other)
            parts = [(self.study.tasks[part.tasks[0]].title, part) for part in self.verdicts[claim].parts]
            lines[f"{title}, points"] = [
                figures.Difference(
                    name, part.found.mean, part.found.interval, [] if part is over else list(pairs[part.tasks[0]]),
                    part is over,
                )
                for name, part in [*parts, ("mean of the tasks", over)]
                if part.found is not None
            ]  # fmt: skip
        return figures.forest(lines)

    def curves(self, titles: Sequence[str]) -> Figure:
        """The mean score of every evaluation over minutes: a panel a task."""
        logs, panels = Logs(), {}
        for name, task in self.study.tasks.items():
            lines = []
            for title in titles:
                runs = self.of(title, name)
                points = over_seeds(logs.of(runs, "metrics.jsonl"), f"eval/{runs['headline'].iloc[0]}", 100)
                minutes = points["x"] * self.step_seconds(title, name) / 60
                lines.append(points.assign(x=minutes, low=points["mean"], high=points["mean"], name=title))
            panels[task.title] = pd.concat(lines)
        return figures.curves(panels, titles, "minutes", "")


def records(study: Study, name: str, claims: Sequence[Claim]) -> tuple[Records, list[str]]:
    """The records of a grid, and a line for each invalid one."""
    grid, folder = study.grids[name], study.records(name)
    frame, skipped = read(folder) if folder.is_dir() else (frame_of([]), [])
    cells = len(grid.cells())
    frame["title"] = [  # without options of training: a grid's rates don't make methods
        title_of(method, frozenset(option for option in own if option[0].startswith("method.")))
        for method, own in zip(frame["method"], frame["own"], strict=True)
    ]
    counted = frame[frame["seed"].isin(grid.seeds) & frame["task"].isin(list(study.tasks))]
    return complete(study, grid.seeds, cells, counted, claims), [f"skipped {line}" for line in skipped]


def complete(study: Study, seeds: Sequence[int], cells: int, frame: pd.DataFrame, claims: Sequence[Claim]) -> Records:
    """The seeds that have all cells, and the verdicts over them."""
    found = heads(frame).groupby("seed").size()
    whole = frame[frame["seed"].isin(found.index[found >= cells])]
    verdicts = {verdict.claim.id: verdict for verdict in judge(claims, whole, None)}
    return Records(study, seeds, cells * len(seeds), frame, whole, verdicts)


def write_pages(folder: Path) -> tuple[list[Path], list[str]]:
    """Write all pages of the study in `folder`. Claims and report are written once all seeds of its first grid of that
    name are complete.

    Returns:
        The files, and warnings.

    Raises:
        UserError: a file can't be read or written, or the template has a mistake.
    """
    study, claims = read_study(folder), read_claims(folder)
    grids, lines = {}, []
    for name in study.grids:
        grids[name], told = records(study, name, claims)
        lines += told
    text, drawn = render(study, grids, claims)
    written = [folder / "README.md"]
    write_text(written[0], text, READ_ONLY)
    for name, figure in drawn.items():
        figures.save(figure, folder / name, READ_ONLY)
        written.append(folder / name)
    main = grids[folder.name]
    if main.seeds:
        findings = gather(study.records(folder.name))
        written += write_tables(findings, folder, claims=main.complete)
        lines += findings.warnings
        if main.complete:
            written.append(write_report(findings, folder)[0])
    return written, list(dict.fromkeys(lines))


def render(study: Study, grids: Mapping[str, Records], claims: Sequence[Claim]) -> tuple[str, dict[str, Figure]]:
    """README.md, and its figures by name. Raises `UserError` if the template has a mistake."""
    drawn: dict[str, Figure] = {}

    def draw(name: str, figure: Figure) -> str:
        drawn[name] = figure
        return name

    def named(part: Part) -> str:
        titles = ", ".join(study.tasks[task].title for task in part.tasks)
        return f"{part.sides}, {f'mean of {titles}' if part.over else titles}"

    def merged(one: Records, other: Records) -> Records:
        frame = pd.concat([one.frame, other.frame[~other.frame["task"].isin(one.frame["task"].unique())]])
        cells = frame[["task", "title"]].drop_duplicates()
        return complete(study, one.planned, len(cells), frame, claims)

    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "signed": signed, "span": span, "p": probability, "mean": mean, "median": median, "std": stdev,
    }  # fmt: skip
    environment.globals |= {
        "named": named, "draw": draw, "merged": merged, "commits": commits, "concat": pd.concat,
        "pairs": lambda names: list(combinations(names, 2)),
    }  # fmt: skip
    template = read_text(study.folder / PAGE, "restore it")
    try:
        text = environment.from_string(template).render(study=study, grids=grids)
    except TemplateSyntaxError as error:
        raise UserError(f"{study.folder / PAGE}, line {error.lineno}: {error.message}") from error
    except (TemplateError, LookupError) as error:
        raise UserError(f"{study.folder / PAGE} asks for something that isn't there: {reason(error)}") from error
    return text.rstrip() + "\n", drawn
