"""Judge claims by our runs, comparison by comparison (docs/statistics.md has the rules)."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import pandas as pd

from adalora.module_paths import layer_of, matches
from adalora.records.published import NO_BUDGET, Key, Published, decimals, scores
from adalora.records.result import Result
from adalora.records.variant import Variant
from adalora.reporting.claims import Claim, Modules, Side
from adalora.reporting.columns import GLUE, title_of
from adalora.reporting.pairs import Settings, pair, settings
from adalora.statistics.paired import ALPHA, Paired, SeedScores, holm, paired, paired_over_tasks, seeds_needed

VERDICTS = ("reproduced", "partly", "not reproduced", "undecided", "not run")
ELSEWHERE = ("holds", "partly", "fails", "open", "not run", "no difference")  # for other backbones than the paper's

Paper = Mapping[str, Mapping[Key, Published]]  # published cells by table


class Decision(StrEnum):
    """What our runs say of a comparison."""

    HOLDS = "holds"
    NONE = "no difference"
    FAILS = "fails"
    OPEN = "open"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Comparison:
    """One comparison of a claim: the first side minus the second in points; for costs, a ratio minus its limit."""

    sides: str
    budget: str  # empty if the sides have different ones
    tasks: Sequence[str]
    metric: str  # empty: the task's score
    over: str = ""  # what is averaged, in words
    groups: str = ""  # of modules, whose ranks are compared, in words
    published: float | None = None
    found: Paired | None = None
    p: float | None = None  # after Holm's correction over the comparisons of the claim, or of its family
    decision: Decision = Decision.NOT_RUN
    needed: int | None = None  # seeds needed to decide a difference of the published size, given the observed spread
    notes: Sequence[str] = ()
    seeds: Sequence[int] = ()
    sign: int = 1  # of the claimed difference
    digits: int = 2  # decimals
    size: float | None = None  # of the claimed difference; None for costs and ranks
    spread: float | None = None  # standard deviation of a seed's difference, over all tasks
    pairs: int = 1  # pairs per seed

    @property
    def name(self) -> str:
        """The comparison in words."""
        at = f" at {self.budget}" if self.budget else ""
        what = f" {self.metric}" if self.metric else f": {self.groups}" if self.groups else ""
        return f"{self.sides}{at}, {self.over or ', '.join(self.tasks)}{what}"


@dataclass(frozen=True)
class Verdict:
    """A claim with its comparisons."""

    claim: Claim
    comparisons: Sequence[Comparison]
    words: Sequence[str] = VERDICTS

    @property
    def run(self) -> bool:
        """Whether any comparison was run."""
        return any(comparison.decision != Decision.NOT_RUN for comparison in self.comparisons)

    @property
    def verdict(self) -> str:
        """One of `words`: all comparisons hold; some hold; none holds but some fail; none is decided; none was run; no
        difference."""
        decisions = {comparison.decision for comparison in self.comparisons}
        if not self.run:
            return self.words[4]
        if decisions == {Decision.NONE}:
            return self.words[5]
        if Decision.HOLDS in decisions:
            return self.words[0] if decisions == {Decision.HOLDS} else self.words[1]
        return self.words[2] if Decision.FAILS in decisions else self.words[3]


class Cells:
    """Runs by cell as named in claims, regardless of length."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.groups = dict(tuple(frame.groupby(["task", "method", "budget", "own"], sort=False)))
        self.split: dict[Any, Settings] = {}

    def of(self, task: str, side: Side, shared: Variant, same_machine: bool = False) -> Settings:
        """The runs of one side on a task, by setting."""
        budget = "any" if side.method in NO_BUDGET else str(side.budget)
        cell = task, side.method, budget, side.variant | shared
        if cell not in self.groups:
            return {}
        if (cell, same_machine) not in self.split:
            self.split[cell, same_machine] = settings(self.groups[cell], same_machine)
        return self.split[cell, same_machine]

    def headlines(self, task: str) -> list[str]:
        """The headline metric of a task's runs."""
        return sorted(self.frame.loc[self.frame["task"] == task, "headline"].unique())

    def sign(self, task: str) -> int:
        """1, or -1 if a task's lower scores are better."""
        runs = self.frame.loc[self.frame["task"] == task, "result"]
        return -1 if len(runs) and runs.iloc[0].task["direction"] == "min" else 1


def judge(claims: Sequence[Claim], frame: pd.DataFrame, paper: Paper | None) -> list[Verdict]:
    """Judge every claim by some runs.

    Args:
        claims: the claims.
        frame: runs comparable with the paper's (only those of the recipe's length count), or on one other backbone.
        paper: the published numbers; None for other backbones, where the claimed difference is positive.
    """
    cells = Cells(frame if paper is None else frame[frame["length"] == ""])
    words = ELSEWHERE if paper is None else VERDICTS
    compared = [(claim, part) for claim in claims for part in comparisons_of(claim, cells, paper)]
    families = dict.fromkeys(claim.family or claim.id for claim in claims)
    decided = {
        family: correct([(claim, part) for claim, part in compared if (claim.family or claim.id) == family])
        for family in families
    }
    return [
        Verdict(claim, [part for of, part in decided[claim.family or claim.id] if of is claim], words)
        for claim in claims
    ]


def judge_elsewhere(claims: Sequence[Claim], frame: pd.DataFrame) -> list[tuple[str, list[Verdict]]]:
    """Judge claims on every other backbone, set of rows and length; those without runs are left out."""
    found = []
    for names, group in frame.groupby(["model", "rows", "length", "precision"]):
        verdicts = judge(claims, group, None)
        tried = [
            replace(each, comparisons=[comparison for comparison in each.comparisons if comparison.found is not None])
            for each in verdicts
        ]
        if any(verdict.comparisons for verdict in tried):
            found.append((", ".join(filter(None, names)), [verdict for verdict in tried if verdict.comparisons]))
    return found


def comparisons_of(claim: Claim, cells: Cells, paper: Paper | None) -> Iterator[Comparison]:
    """A claim's comparisons before the correction."""
    if claim.kind == "ranks":
        yield from (rank_comparison(claim, task, side, cells) for side, _ in claim.pairs() for task in claim.tasks)
        return
    if claim.over == "average":
        yield from (average_comparison(claim, one, other, cells, paper) for one, other in claim.pairs())
        return
    wanted = [
        (one, other, task, metrics, published_difference(claim, task, metrics, one, other, paper))
        for one, other in claim.pairs()
        for task in claim.tasks
        for metrics in [[metric] for metric in claim.metrics] or [metrics_of(claim, task, paper, cells)]
    ]
    printed = [each[-1] for each in wanted if each[-1] is not None]
    limit = claim.limit or max(printed, default=None) if claim.kind == "cost" else None
    for one, other, task, metrics, published in wanted:
        if published is None and paper is not None:
            continue
        costs = claim.kind == "cost"
        mine, theirs, notes = pair(cells.of(task, one, claim.shared, costs), cells.of(task, other, claim.shared, costs))
        first, second = (side.scores(metrics, claim.step) for side in (mine, theirs))
        comparison = compare_scores(one, other, [task], first, second, notes, published)
        comparison = replace(
            comparison,
            metric=metrics[0] if claim.metrics else "",
            sign=comparison.sign if published is not None else cells.sign(task),
            digits=decimals(metrics[0]) if metrics else 2,
        )
        if limit is not None:
            ratios = {seed: first[seed] / second[seed] for seed in first.keys() & second.keys()}
            found = paired(ratios, dict.fromkeys(ratios, limit))
            comparison = replace(
                comparison, found=found, spread=found.std if found else None, sign=-1, size=None, digits=4,
                published=None if published is None else published - limit,
                notes=[*notes, f"ratio at most {limit:.4f}"],
            )  # fmt: skip
        yield comparison


def average_comparison(claim: Claim, one: Side, other: Side, cells: Cells, paper: Paper | None) -> Comparison:
    """A comparison of the mean over tasks: all of the claim's on the paper's backbone, else the common ones."""
    tables: dict[str, tuple[SeedScores, SeedScores]] = {}
    notes: list[str] = []
    printed: list[float | None] = []
    for task in claim.tasks:
        metrics = metrics_of(claim, task, paper, cells)
        printed.append(published_difference(claim, task, metrics, one, other, paper))
        first, second, more = pair(cells.of(task, one, claim.shared), cells.of(task, other, claim.shared))
        notes += more
        if len(first.runs):
            tables[task] = first.scores(metrics, claim.step), second.scores(metrics, claim.step)
    missing = [task for task in claim.tasks if task not in tables]
    published = statistics.mean(p for p in printed if p is not None) if printed and None not in printed else None
    over = f"mean of {len(claim.tasks)} tasks" if paper is not None else f"mean of {', '.join(tables)}"
    whole = sorted(set.intersection(*(set(first) for first, _ in tables.values()))) if tables else []
    comparison = replace(
        compare_scores(one, other, list(tables), {}, {}, list(dict.fromkeys(notes)), published), over=over
    )
    if published is None and tables:
        task = next(iter(tables))  # a mean is over metrics of one kind
        metrics = metrics_of(claim, task, paper, cells)
        comparison = replace(comparison, sign=cells.sign(task), digits=decimals(metrics[0]) if metrics else 2)
    if not tables or (paper is not None and missing):
        return replace(comparison, notes=[f"not run: {', '.join(missing)}"])
    means = [statistics.mean(x[seed] - y[seed] for x, y in tables.values()) for seed in whole]
    spread = statistics.stdev(means) if len(means) > 1 else None
    found = paired_over_tasks(list(tables.values()))
    return replace(comparison, found=found, seeds=whole, spread=spread, pairs=len(tables))


def rank_comparison(claim: Claim, task: str, side: Side, cells: Cells) -> Comparison:
    """A comparison of the mean realised ranks of two groups of modules, paired by seed."""
    mine = cells.of(task, side, claim.shared)
    seeds, _, notes = pair(mine, mine)
    results = seeds.runs["result"].to_dict() if len(seeds.runs) else {}
    assert claim.more is not None and claim.less is not None
    more, less = (
        {seed: rank for seed, run in results.items() if (rank := mean_rank(run, group)) is not None}
        for group in (claim.more, claim.less)
    )
    comparison = compare_scores(side, side, [task], more, less, notes, None)
    groups = f"{claim.more.name} - {claim.less.name}"
    return replace(comparison, sides=title_of(side.method, side.variant), groups=groups)


def compare_scores(
    one: Side, other: Side, tasks: Sequence[str], first: SeedScores, second: SeedScores, notes: Sequence[str],
    published: float | None,
) -> Comparison:  # fmt: skip
    """A comparison of scores before correction; the claimed sign is that of the published difference."""
    texts = [title_of(side.method, side.variant) for side in (one, other)]
    if one.budget != other.budget:
        texts = [f"{text} {side.budget}" for text, side in zip(texts, (one, other), strict=True)]
    found = paired(first, second)
    return Comparison(
        " - ".join(texts), str(one.budget) if one.budget == other.budget else "", tasks, "", published=published,
        found=found, notes=notes, seeds=sorted(first), size=published, spread=found.std if found else None,
        sign=-1 if published is not None and published < 0 else 1,
    )  # fmt: skip


def metrics_of(claim: Claim, task: str, paper: Paper | None, cells: Cells) -> list[str]:
    """The metrics that make up a task's score: the claim's own, those of its table, GLUE's columns, or the runs'
    headline metric."""
    printed = sorted({key[1] for key in (paper or {}).get(claim.table or "", {}) if key[0] == task})
    named = list(claim.metrics) or printed or [column.metric for column in GLUE if column.task == task]
    return named or cells.headlines(task)


def published_difference(
    claim: Claim, task: str, metrics: Sequence[str], one: Side, other: Side, paper: Paper | None
) -> float | None:
    """The published difference in points (a ratio for costs); None if there is none."""
    if paper is None:
        return None
    table, merged, differences = paper.get(claim.table or "", {}), scores(paper), []
    for metric in metrics:
        whole = table.get((task, metric, one.method, str(one.budget), (one.variant, other.variant)))
        keys = [(task, metric, side.method, str(side.budget), side.variant) for side in (one, other)]
        first, second = (table.get(key) or merged.get(key) for key in keys)
        if whole is not None:
            differences.append(whole.value)
        elif first is None or second is None:
            return None
        else:
            costs = claim.kind == "cost"
            differences.append(first.value / second.value if costs else first.value - second.value)
    return statistics.mean(differences) if differences else None


def mean_rank(run: Result, group: Modules) -> float | None:
    """The mean realised rank of a group of modules, given by short names or by half of the layers; None if the run has
    none of them."""
    targets: Mapping[str, str] = run.model.get("targets", {})
    ranks = {path: rank for path, rank in run.ranks.items() if any(matches(path, p) for p in targets.values())}
    if group.half:
        layers = {path: layer_of(path) for path in ranks}
        depth = {stack: 1 + max(n for s, n in layers.values() if s == stack) for stack, _ in layers.values()}
        upper = group.half == "upper"
        chosen = [path for path, (stack, n) in layers.items() if (2 * n >= depth[stack]) == upper]
    else:
        patterns = [targets[name] for name in group.modules if name in targets]
        chosen = [path for path in ranks for pattern in patterns if matches(path, pattern)]
    return statistics.mean(ranks[path] for path in chosen) if chosen else None


def correct(comparisons: Sequence[tuple[Claim, Comparison]]) -> list[tuple[Claim, Comparison]]:
    """Correct the p-values of a family's comparisons, and decide each."""
    tested = {
        i: comparison.found.p
        for i, (_, comparison) in enumerate(comparisons)
        if comparison.found is not None and comparison.found.p is not None
    }
    ps = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [
        (claim, decide(comparison, ps.get(i), len(tested), claim)) for i, (claim, comparison) in enumerate(comparisons)
    ]


def decide(comparison: Comparison, p: float | None, comparisons: int, claim: Claim) -> Comparison:
    """Decide a comparison.

    There is no difference if the whole 95 % interval lies within the claim's margin. A smaller difference than its
    resolution is open.
    Others hold with the claimed sign and p <= 0.05. They fail with the other sign and p <= 0.05, or if the whole 95 %
    interval is below half of the published difference. What is left is open, with the number of seeds needed.
    """
    found, notes = comparison.found, comparison.notes
    if found is None:
        return comparison
    if comparison.size == 0:
        return replace(comparison, p=p, decision=Decision.OPEN, notes=[*notes, "the table prints no difference"])
    difference = comparison.sign * found.mean
    if claim.margin and found.interval is not None and max(map(abs, found.interval)) <= claim.margin:
        return replace(comparison, p=p, decision=Decision.NONE)
    if claim.resolution and abs(found.mean) < claim.resolution:
        note = f"a difference below {claim.resolution:g} can come from the choice of learning rates"
        return replace(comparison, p=p, decision=Decision.OPEN, notes=[*notes, note])
    if p is not None and p <= ALPHA and difference != 0:
        return replace(comparison, p=p, decision=Decision.HOLDS if difference > 0 else Decision.FAILS)
    if comparison.size is not None and found.interval is not None:
        highest = max(comparison.sign * end for end in found.interval)
        if highest < abs(comparison.size) / 2:
            note = "the interval lies below half of the published difference"
            return replace(comparison, p=p, decision=Decision.FAILS, notes=[*notes, note])
    expected = found.mean if comparison.size is None else comparison.size
    needed = (
        None
        if comparison.spread is None
        else seeds_needed(expected, comparison.spread, max(1, comparisons), comparison.pairs)
    )
    if found.p is None:
        notes = [*notes, "one seed: no interval, no p"]
    elif comparison.spread == 0:
        notes = [*notes, "all seeds are equal"]
    return replace(comparison, p=p, decision=Decision.OPEN, needed=needed, notes=notes)
