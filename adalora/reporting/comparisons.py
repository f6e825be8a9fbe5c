"""The comparisons that make up a claim: the published difference, and ours."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adalora.paths import layer_of, matches
from adalora.published import Key, Published, scores
from adalora.reporting.cells import GLUE, numbers_of
from adalora.reporting.claims import Claim, Side
from adalora.reporting.pairs import Cells, sides
from adalora.reporting.results import Run
from adalora.statistics.paired import Paired, Scores, paired, paired_over_tasks
from adalora.variant import describe

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "fails", "open", "not run"  # states of a comparison

Paper = Mapping[str, Mapping[Key, Published]]  # published cells by table


@dataclass(frozen=True)
class Part:
    """One comparison of a claim: `one` minus `other` in points; for costs, a ratio minus its limit."""

    name: str
    published: float | None
    found: Paired | None
    p: float | None = None  # after Holm's correction over the claim's parts
    state: str = NOT_RUN
    needed: int | None = None  # seeds needed to decide a difference of the published size, given the observed spread
    notes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    sign: int = 1  # of the claimed difference
    size: float | None = None  # of the claimed difference; None for costs and ranks
    spread: float | None = None  # standard deviation of a seed's difference, over all tasks
    pairs: int = 1  # pairs per seed


def parts_of(claim: Claim, cells: Cells, paper: Paper | None) -> list[Part]:
    """A claim's comparisons before the correction."""
    if claim.kind == "ranks":
        return [rank_part(claim, task, side, cells) for side, _ in claim.pairs() for task in claim.tasks]
    if claim.over == "average":
        return [average_part(claim, one, other, cells, paper) for one, other in claim.pairs()]
    wanted = [
        (one, other, task, metrics, published_difference(claim, task, metrics, one, other, paper))
        for one, other in claim.pairs()
        for task in claim.tasks
        for metrics in [[metric] for metric in claim.metrics] or [metrics_of(claim, task, paper, cells)]
    ]
    limit = max((each[-1] for each in wanted if each[-1] is not None), default=None) if claim.kind == "cost" else None
    printed = [each for each in wanted if each[-1] is not None or paper is None]
    return [each_part(claim, cells, *each, limit) for each in printed]


def each_part(
    claim: Claim, cells: Cells, one: Side, other: Side, task: str, metrics: Sequence[str], published: float | None,
    limit: float | None,
) -> Part:  # fmt: skip
    """A comparison on one task: of two scores, or of a cost ratio and its limit."""
    name = f"{versus(claim, one, other)}, {task}" + (f" {metrics[0]}" if claim.metrics else "")
    a, b, notes = sides(task, one, other, cells, same_machine=claim.kind == "cost")
    first, second = (values_of(side, metrics, claim.step) for side in (a, b))
    if limit is not None:
        ratios = {seed: first[seed] / second[seed] for seed in first.keys() & second.keys()}
        found = paired(ratios, dict.fromkeys(ratios, limit))
        notes = (*notes, f"ratio at most {limit:.2f}")
        return replace(part_of(name, published, found, notes, ratios), sign=-1, size=None)
    return part_of(name, published, paired(first, second), notes, first)


def average_part(claim: Claim, one: Side, other: Side, cells: Cells, paper: Paper | None) -> Part:
    """A comparison of the mean over tasks: all of the claim's on the paper's backbone, else the common ones."""
    tables: dict[str, tuple[Scores, Scores]] = {}
    notes: list[str] = []
    missing = []
    for task in claim.tasks:
        a, b, told = sides(task, one, other, cells)
        notes += [line for line in told if line not in notes]
        metrics = metrics_of(claim, task, paper, cells)
        if a:
            tables[task] = values_of(a, metrics, claim.step), values_of(b, metrics, claim.step)
        else:
            missing.append(task)
    published = None
    if paper is not None:
        differences = [
            published_difference(claim, task, metrics_of(claim, task, paper, cells), one, other, paper)
            for task in claim.tasks
        ]
        known = [d for d in differences if d is not None]
        published = statistics.mean(known) if len(known) == len(differences) else None
    name = f"{versus(claim, one, other)}, " + (
        f"mean of {len(claim.tasks)} tasks" if paper is not None else f"mean of {', '.join(tables)}"
    )
    if not tables or (paper is not None and missing):
        return Part(name, published, None, notes=(f"not run: {', '.join(missing)}",))
    found = paired_over_tasks(list(tables.values()))
    whole = set.intersection(*(set(first) for first, _ in tables.values()))
    means = [statistics.mean(one[seed] - two[seed] for one, two in tables.values()) for seed in sorted(whole)]
    spread = statistics.stdev(means) if len(means) > 1 else None
    part = part_of(name, published, found, notes, whole)
    return replace(part, spread=spread, pairs=len(tables))


def rank_part(claim: Claim, task: str, side: Side, cells: Cells) -> Part:
    """A comparison of the mean realised ranks of two groups of maps, paired by seed."""
    name = f"{side.method} {side.budget}, {task}: {group_name(claim.more)} - {group_name(claim.less)}"
    runs, _, notes = sides(task, side, side, cells)
    pairs = {seed: (mean_rank(run, claim.more), mean_rank(run, claim.less)) for seed, run in runs.items()}
    whole = {seed: (a, b) for seed, (a, b) in pairs.items() if a is not None and b is not None}
    more, less = ({seed: pair[i] for seed, pair in whole.items()} for i in (0, 1))
    return part_of(name, None, paired(more, less), notes, whole)


def part_of(
    name: str, published: float | None, found: Paired | None, notes: Sequence[str], seeds: Iterable[int]
) -> Part:
    """A comparison of scores, before correction; the claimed sign is that of the published difference."""
    sign = -1 if published is not None and published < 0 else 1
    return Part(
        name, published, found, notes=tuple(notes), seeds=tuple(sorted(seeds)), sign=sign, size=published,
        spread=found.std if found else None,
    )  # fmt: skip


def metrics_of(claim: Claim, task: str, paper: Paper | None, cells: Cells) -> list[str]:
    """The metrics that make up a task's score: the claim's own, those of its table, GLUE's columns, or the runs'
    headline metric."""
    printed = sorted({key[1] for key in (paper or {}).get(claim.table or "", {}) if key[0] == task})
    named = list(claim.metrics) or printed or [column.metric for column in GLUE if column.task == task]
    return named or cells.headlines(task)


def values_of(runs: Mapping[int, Run], metrics: Sequence[str], step: str) -> dict[int, float]:
    """The mean of some metrics by seed, in percent; runs that lack one are skipped."""
    numbers = {seed: numbers_of(run, step) for seed, run in runs.items()}
    return {seed: statistics.mean(map(n.__getitem__, metrics)) for seed, n in numbers.items() if n.keys() >= {*metrics}}


def published_difference(
    claim: Claim, task: str, metrics: Sequence[str], one: Side, other: Side, paper: Paper | None
) -> float | None:
    """The published difference in points (a ratio for costs); None if there is none."""
    if paper is None:
        return None
    table = paper.get(claim.table or "", {})
    differences = []
    for metric in metrics:
        whole = table.get((task, metric, one.method, str(one.budget), (one.variant, other.variant)))
        if whole is not None:
            differences.append(whole.value)
            continue
        pair = [
            table.get(key) or scores(paper).get(key)
            for side in (one, other)
            for key in [(task, metric, side.method, str(side.budget), side.variant)]
        ]
        if pair[0] is None or pair[1] is None:
            return None
        costs = claim.kind == "cost"
        differences.append(pair[0].value / pair[1].value if costs else pair[0].value - pair[1].value)
    return statistics.mean(differences) if differences else None


def versus(claim: Claim, one: Side, other: Side) -> str:
    """The two sides of a comparison in words."""
    texts = [side.method + (f" [{describe(side.variant)}]" if side.variant else "") for side in (one, other)]
    if one.budget == other.budget:
        return f"{texts[0]} - {texts[1]} at {one.budget}"
    return f"{texts[0]} {one.budget} - {texts[1]} {other.budget}"


def group_name(group: Mapping[str, Any]) -> str:
    """A group of maps in words."""
    return f"{group['half']} half" if "half" in group else "+".join(group["maps"])


def mean_rank(run: Run, group: Mapping[str, Any]) -> float | None:
    """The mean realised rank of a group of maps, given by short names or by half of the layers; None if the run has
    none of them."""
    targets: Mapping[str, str] = run["model"].get("targets", {})
    ranks = {path: rank for path, rank in run["ranks"].items() if any(matches(path, p) for p in targets.values())}
    if "half" in group:
        layers = {path: layer_of(path) for path in ranks}
        depth = {stack: 1 + max(n for s, n in layers.values() if s == stack) for stack, _ in layers.values()}
        upper = group["half"] == "upper"
        chosen = [path for path, (stack, n) in layers.items() if (2 * n >= depth[stack]) == upper]
    else:
        patterns = [targets[name] for name in group["maps"] if name in targets]
        chosen = [path for path in ranks for pattern in patterns if matches(path, pattern)]
    return statistics.mean(ranks[path] for path in chosen) if chosen else None
