"""The numbers on the pocket reproduction's pages."""

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adalora.published import scores_of
from adalora.reporting.cells import TITLES
from adalora.reporting.claims import Claim
from adalora.reporting.comparisons import Part, mean_rank
from adalora.reporting.report.series import logged, over_seeds
from adalora.reporting.results import Run, budget_of
from adalora.reporting.verdicts import Verdict, judge
from adalora.statistics.agreement import mean_correlation
from adalora.statistics.over_tasks import Estimate

TASKS = {"r8": "R8", "mrpc": "MRPC", "stsb": "STS-B", "cola": "CoLA"}
METHODS = ("AdaLoRA", "SVD-LoRA", "LoRA")
CONSTANT = {  # scores of a constant prediction; accuracies: 1,083 of 2,189 rows and 279 of 408
    "r8": 49.47, "mrpc": 68.38, "stsb": 0.0, "cola": 0.0,
}  # fmt: skip
BUDGET = "custom 82,944"  # mean rank 2 in 36 maps

Cells = Mapping[tuple[str, str], Mapping[int, Run]]  # (method, task) -> seed -> run


def name_of(run: Run) -> str:
    """The name of a run's method. AdaLoRA without pruning is SVD-LoRA (arXiv 2303.10512 Table 5)."""
    method = run["method"]
    if method["name"] == "adalora" and method["init_rank"] == method["target_rank"]:
        return "SVD-LoRA"
    return TITLES.get(method["name"], method["name"])


def cell_of(run: Run) -> tuple[str, str]:
    """Method and task of a run."""
    return name_of(run), run["task"]["name"]


def in_words(part: Part) -> str:
    """Name a comparison, without the common budget."""
    text = part.name.replace(f" at {BUDGET}", "").replace("adalora [init_rank=2, target_rank=2]", "SVD-LoRA")
    text = re.sub(r"\badalora\b", "AdaLoRA", re.sub(r"\blora\b", "LoRA", text))
    return re.sub("|".join(TASKS), lambda task: TASKS[task[0]], text)


def score(run: Run) -> float:
    """The headline metric at the last step, in percent."""
    return scores_of(run, "last")[run["task"]["headline"]]


@dataclass(frozen=True)
class Pocket:
    """The runs of all complete seeds, and the verdicts over them.

    `planned` are all seeds of the study; `recorded` also counts runs of incomplete seeds. `tasks` has names and titles.
    """

    tasks: Mapping[str, str]
    cells: Cells
    seeds: Sequence[int]
    planned: Sequence[int]
    recorded: int
    verdicts: Mapping[str, Verdict]

    @property
    def complete(self) -> bool:
        """Whether all planned seeds are complete, as the protocol's tests require."""
        return len(self.seeds) == len(self.planned)

    @property
    def wanted(self) -> int:
        """The number of planned runs."""
        return len(self.planned) * len(METHODS) * len(self.tasks)

    @property
    def runs(self) -> list[Run]:
        """All runs of the complete seeds."""
        return [run for cell in self.cells.values() for run in cell.values()]

    @property
    def machines(self) -> list[str]:
        """The processors of the complete seeds' runs."""
        return sorted({run["hardware"]["name"] for run in self.runs})

    def parameters(self, method: str, count: str) -> str:
        """The adapter parameters of a method's runs, as a number or a range. `count`: peak or kept."""
        found = [run["parameters"][count] for task in self.tasks for run in self.cells[method, task].values()]
        low, high = min(found), max(found)
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    def rate(self, method: str, task: str) -> float:
        """The learning rate of a cell."""
        return next(iter(self.cells[method, task].values()))["training"]["lr"]

    def scores(self, method: str, task: str) -> list[float]:
        """The scores of a cell, seed by seed."""
        return [score(self.cells[method, task][seed]) for seed in self.seeds]

    def differences(self, method: str, other: str, task: str) -> list[float]:
        """The score of `method` minus that of `other`, seed by seed."""
        return [one - two for one, two in zip(self.scores(method, task), self.scores(other, task), strict=True)]

    def collapsed(self) -> dict[tuple[str, str], list[int]]:
        """Seeds by (method, task) of runs that score closer to a constant prediction than to the median of the task."""
        found = defaultdict(list)
        for task in self.tasks if self.seeds else ():
            middle = statistics.median(value for method in METHODS for value in self.scores(method, task))
            for method in METHODS:
                for seed, value in zip(self.seeds, self.scores(method, task), strict=True):
                    if abs(value - CONSTANT[task]) < abs(value - middle):
                        found[method, task].append(seed)
        return dict(found)

    def without_collapsed(self, method: str, other: str) -> tuple[float, int, int]:
        """The mean over tasks of the mean difference, without pairs that have a collapsed run; its tasks and pairs.

        NaN if no pair is left.
        """
        out = self.collapsed()
        differences = [
            [
                difference
                for seed, difference in zip(self.seeds, self.differences(method, other, task), strict=True)
                if seed not in (*out.get((method, task), ()), *out.get((other, task), ()))
            ]
            for task in self.tasks
        ]
        means = [statistics.mean(found) for found in differences if found]
        return statistics.mean(means) if means else math.nan, len(means), sum(map(len, differences))

    def over_tasks(self, method: str) -> list[float]:
        """The mean score over the tasks, seed by seed."""
        return [statistics.mean(score(self.cells[method, task][seed]) for task in self.tasks) for seed in self.seeds]

    def agreement(self, task: str) -> Estimate:
        """Agreement of AdaLoRA's final ranks between seeds. Raises `ValueError` for a single seed."""
        runs = self.cells["AdaLoRA", task]
        maps = sorted(runs[self.seeds[0]]["ranks"])
        return mean_correlation([[runs[seed]["ranks"][path] for path in maps] for seed in self.seeds])

    def across(self, one: str, other: str) -> float:
        """Spearman's correlation of two tasks' mean final ranks."""
        vectors = []
        for task in (one, other):
            runs = self.cells["AdaLoRA", task].values()
            maps = sorted(next(iter(runs))["ranks"])
            vectors.append([statistics.mean(run["ranks"][path] for run in runs) for path in maps])
        return mean_correlation(vectors).value

    def rank_by_map(self, task: str) -> dict[str, float]:
        """The mean final rank of each kind of map."""
        runs = list(self.cells["AdaLoRA", task].values())
        ranks = {name: [mean_rank(run, {"maps": [name]}) for run in runs] for name in runs[0]["model"]["targets"]}
        return {name: statistics.mean(rank for rank in found if rank is not None) for name, found in ranks.items()}

    def step_seconds(self, method: str, task: str) -> float:
        """Seconds per step including evaluations, median over the seeds."""
        return statistics.median(run["seconds"] / run["last_step"] for run in self.cells[method, task].values())

    def step_ratio(self, method: str, other: str, task: str) -> float:
        """Seconds of `method` divided by those of `other`, median over the seeds."""
        one, two = self.cells[method, task], self.cells[other, task]
        return statistics.median(one[seed]["seconds"] / two[seed]["seconds"] for seed in self.seeds)

    def curve(self, method: str, task: str) -> list[tuple[int, float]]:
        """Step and mean score of every evaluation."""
        runs = list(self.cells[method, task].values())
        headline = logged(f"eval/{runs[0]['task']['headline']}", 100)
        points = over_seeds([run["evaluations"] for run in runs], headline)
        return [(int(point["step"]), point["mean"]) for point in points]


def pocket(
    runs: Sequence[Run], planned: Sequence[int], claims: Sequence[Claim], tasks: Mapping[str, str] = TASKS
) -> Pocket:
    """Select the runs of seeds with every method on every task, and judge the claims by them."""
    cells: dict[tuple[str, str], dict[int, Run]] = defaultdict(dict)
    wanted = [(method, task) for method in METHODS for task in tasks]
    counted = [run for run in runs if budget_of(run) == BUDGET and run["seed"] in planned and cell_of(run) in wanted]
    for run in counted:
        cells[cell_of(run)][run["seed"]] = run
    seeds = [seed for seed in planned if tasks and all(seed in cells[cell] for cell in wanted)]
    whole = {cell: {seed: cells[cell][seed] for seed in seeds} for cell in wanted}
    verdicts = judge(claims, [run for cell in whole.values() for run in cell.values()], None)
    return Pocket(tasks, whole, seeds, planned, len(counted), {verdict.claim.id: verdict for verdict in verdicts})


@dataclass(frozen=True)
class Tuned:
    """The score of each learning rate for a method on a task. The best is chosen, the lower one on a tie."""

    scores: Mapping[float, float]

    @property
    def best(self) -> float:
        """The chosen rate."""
        return max(sorted(self.scores), key=lambda rate: self.scores[rate])


def tuning(runs: Sequence[Run]) -> dict[tuple[str, str], Tuned]:
    """The tuning by (method, task)."""
    found: dict[tuple[str, str], dict[float, float]] = defaultdict(dict)
    for run in runs:
        found[cell_of(run)][run["training"]["lr"]] = score(run)
    return {cell: Tuned(dict(sorted(scores.items()))) for cell, scores in found.items()}
