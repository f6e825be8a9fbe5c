"""What our runs say of a claim, part by part, with its uncertainty (docs/statistics.md has the rules)."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adalora.backbones.targets import layer_of
from adalora.reporting.cells import GLUE, numbers_of
from adalora.reporting.claims import Claim, Side
from adalora.reporting.paper import Key, Published, lora_ranks, minus, read_all, scores
from adalora.reporting.results import Run, budget_of, folder_of
from adalora.reporting.variants import SETTING, label, options, several_versions, unusual
from adalora.statistics.paired import ALPHA, Paired, Scores, holm, paired, paired_over_tasks, seeds_needed

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "fails", "open", "not run"
VERDICTS = ("reproduced", "partly", "not reproduced", "undecided", "not run")
ELSEWHERE = ("holds", "partly", "fails", "open", "not run")  # the same, where a paper's claim isn't judged

Paper = Mapping[str, Mapping[Key, Published]]


@dataclass(frozen=True)
class Part:
    """One comparison of a claim: `one` minus `other`, in points (a ratio minus its limit for costs)."""

    name: str
    published: float | None
    found: Paired | None
    p: float | None = None  # after Holm's correction over the claim's parts
    state: str = NOT_RUN
    needed: int | None = None  # seeds that would decide a difference of the published size, given the spread seen
    notes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    sign: int = 1  # of the difference that is claimed
    spread: float | None = None  # standard deviation of a seed's difference, over all tasks of the part
    pairs: int = 1  # a seed


@dataclass(frozen=True)
class Verdict:
    """A claim with what it rests on."""

    claim: Claim
    parts: Sequence[Part]
    words: tuple[str, ...] = VERDICTS

    @property
    def verdict(self) -> str:
        """One of `words`: all parts hold; some hold; none holds and some fail; none is decided; none was run."""
        reproduced, partly, not_reproduced, undecided, not_run = self.words
        states = {part.state for part in self.parts}
        if states <= {NOT_RUN}:
            return not_run
        if states == {HOLDS}:
            return reproduced
        if HOLDS in states:
            return partly
        return not_reproduced if FAILS in states else undecided


class Cells:
    """Runs by the cell that a claim names, whatever their length.

    Raises:
        UserError: results/paper can't be read.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
        for run in runs:
            chosen = options(run)
            variant = label(chosen, unusual(run) - {"length"})
            self.runs[run["task"]["name"], run["method"]["name"], budget_of(run), variant].append(run)
        self.ranks = lora_ranks(read_all())

    def of(self, task: str, side: Side) -> list[Run]:
        """The runs of a side on a task."""
        variant = side.variant.format(rank=self.ranks.get(side.budget or ""))
        budget = "any" if side.method in ("full", "bitfit") else side.budget
        return self.runs.get((task, side.method, str(budget), variant), [])


def judge(claims: Sequence[Claim], runs: Sequence[Run], paper: Paper | None) -> list[Verdict]:
    """Every claim's verdict over some runs.

    Args:
        claims: what is claimed.
        runs: those that may stand beside the papers', or those of one other backbone.
        paper: the published cells; None where they don't apply: then the claimed difference is positive.
    """
    cells = Cells(runs)
    words = ELSEWHERE if paper is None else VERDICTS
    return [Verdict(claim, corrected(parts_of(claim, cells, paper)), words) for claim in claims]


def parts_of(claim: Claim, cells: Cells, paper: Paper | None) -> list[Part]:
    """A claim's comparisons before the correction."""
    if claim.kind == "ranks":
        return [rank_part(claim, task, side, cells) for side, _ in claim.pairs() for task in claim.tasks]
    if claim.over == "average":
        return [average_part(claim, one, other, cells, paper) for one, other in claim.pairs()]
    parts = []
    for one, other in claim.pairs():
        for task in claim.tasks:
            for metrics in [[metric] for metric in claim.metrics] or [metrics_of(claim, task, paper)]:
                if published_difference(claim, task, metrics, one, other, cells, paper) is None and paper is not None:
                    continue  # the table doesn't print it
                parts.append(each_part(claim, task, metrics, one, other, cells, paper))
    return parts


def each_part(
    claim: Claim, task: str, metrics: Sequence[str], one: Side, other: Side, cells: Cells, paper: Paper | None
) -> Part:
    """One task of a claim about scores or costs."""
    published = published_difference(claim, task, metrics, one, other, cells, paper)
    name = f"{versus(claim, one, other)}, {task}" + (f" {metrics[0]}" if claim.metrics else "")
    a, b, notes = sides(task, one, other, cells, same_machine=claim.kind == "cost")
    if claim.kind == "cost":
        limit = cost_limit(claim, metrics[0], cells, paper)
        if limit is None:
            return Part(name, None, None, notes=("no published limit applies",))
        first, second = (values_of(side, metrics, claim.step) for side in (a, b))
        ratios = {seed: first[seed] / second[seed] for seed in first.keys() & second.keys()}
        found = paired(ratios, dict.fromkeys(ratios, limit))
        notes = (*notes, f"ratio at most {limit:.2f}")
        return part_of(name, published, found, notes, a, sign=-1)
    first, second = (values_of(side, metrics, claim.step) for side in (a, b))
    return part_of(name, published, paired(first, second), notes, first)


def average_part(claim: Claim, one: Side, other: Side, cells: Cells, paper: Paper | None) -> Part:
    """The mean over a claim's tasks: all of them beside the paper, else those that both sides have."""
    tables: dict[str, tuple[Scores, Scores]] = {}
    notes: list[str] = []
    missing = []
    for task in claim.tasks:
        a, b, told = sides(task, one, other, cells)
        notes += [line for line in told if line not in notes]
        metrics = metrics_of(claim, task, paper)
        if a:
            tables[task] = values_of(a, metrics, claim.step), values_of(b, metrics, claim.step)
        else:
            missing.append(task)
    published = None
    if paper is not None:
        differences = [
            published_difference(claim, task, metrics_of(claim, task, paper), one, other, cells, paper)
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
    part = part_of(name, published, found, notes, {seed: {} for seed in whole})
    return replace(part, spread=spread, pairs=len(tables))


def rank_part(claim: Claim, task: str, side: Side, cells: Cells) -> Part:
    """Mean realised rank of one group of maps minus another's, seed by seed."""
    name = f"{side.method} {side.budget}, {task}: {group_name(claim.more)} - {group_name(claim.less)}"
    runs, notes = one_setting(cells.of(task, side), [])
    more = {seed: mean_rank(run, claim.more) for seed, run in runs.items()}
    less = {seed: mean_rank(run, claim.less) for seed, run in runs.items()}
    return part_of(name, None, paired(more, less), notes, runs)


def part_of(
    name: str, published: float | None, found: Paired | None, notes: Sequence[str], runs: Mapping[int, Any],
    sign: int | None = None,
) -> Part:  # fmt: skip
    """A part that awaits the correction."""
    if sign is None:
        sign = -1 if published is not None and published < 0 else 1
    return Part(
        name, published, found, notes=tuple(notes), seeds=tuple(sorted(runs)), sign=sign,
        spread=found.std if found else None,
    )  # fmt: skip


def corrected(parts: Sequence[Part]) -> list[Part]:
    """The parts with p-values corrected over those that have one, and judged."""
    tested = [i for i, part in enumerate(parts) if part.found is not None and part.found.p is not None]
    ps = dict(zip(tested, holm([parts[i].found.p for i in tested]), strict=True))  # type: ignore[union-attr, misc]
    return [judged(part, ps.get(i), len(tested)) for i, part in enumerate(parts)]


def judged(part: Part, p: float | None, comparisons: int) -> Part:
    """A part's state.

    It holds where the difference has the claimed sign and p <= 0.05; it fails where it has the other, or where the
    whole 95 % interval lies below half of the published difference. Else it is open, with the seeds it would take.
    """
    found = part.found
    if found is None:
        return part
    if part.published == 0:
        return replace(part, p=p, state=OPEN, notes=(*part.notes, "the table prints no difference"))
    difference = part.sign * found.mean
    if p is not None and p <= ALPHA and difference != 0:
        return replace(part, p=p, state=HOLDS if difference > 0 else FAILS)
    if part.published is not None and found.interval is not None:
        highest = max(part.sign * end for end in found.interval)
        if highest < abs(part.published) / 2:
            note = "the interval lies below half of the published difference"
            return replace(part, p=p, state=FAILS, notes=(*part.notes, note))
    expected = found.mean if part.published is None else part.published
    needed = None if part.spread is None else seeds_needed(expected, part.spread, max(1, comparisons), part.pairs)
    notes = part.notes
    if found.p is None:
        notes = (*notes, "one seed: no interval, no p")
    elif part.spread == 0:
        notes = (*notes, "all seeds are equal")
    return replace(part, p=p, state=OPEN, needed=needed, notes=notes)


def sides(
    task: str, one: Side, other: Side, cells: Cells, same_machine: bool = False
) -> tuple[dict[int, Run], dict[int, Run], tuple[str, ...]]:
    """The runs of both sides by seed, of the setting that has most pairs, and what was left out."""
    first, second = cells.of(task, one), cells.of(task, other)
    groups: dict[tuple[Any, ...], tuple[list[Run], list[Run]]] = defaultdict(lambda: ([], []))
    for runs, place in ((first, 0), (second, 1)):
        for run in runs:
            machine = run["hardware"].get("name") if same_machine else None
            groups[(*(options(run)[name] for name in SETTING), machine)][place].append(run)
    best: tuple[dict[int, Run], dict[int, Run], tuple[str, ...]] = {}, {}, ()
    for a, b in groups.values():
        (x, told), (y, told_too) = one_setting(a, []), one_setting(b, [])
        both = sorted(x.keys() & y.keys())
        if len(both) > len(best[0]):
            best = {s: x[s] for s in both}, {s: y[s] for s in both}, (*told, *told_too)
    if len(groups) > 1 and best[0]:
        best = (
            *best[:2],
            (*best[2], f"{task}: {len(groups)} settings of data, weights, length or precision; one is used"),
        )
    return best


def one_setting(runs: Sequence[Run], notes: Sequence[str]) -> tuple[dict[int, Run], tuple[str, ...]]:
    """Runs by seed; a seed that several runs have is left out, and mixed package versions are named."""
    by_seed: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_seed[run["seed"]].append(run)
    told = list(notes)
    for seed, same in by_seed.items():
        if len(same) > 1:
            told.append(f"seed {seed} left out, it has several runs ({', '.join(map(folder_of, same))})")
    whole = {seed: same[0] for seed, same in sorted(by_seed.items()) if len(same) == 1}
    for package, found in several_versions(list(whole.values())).items():
        told.append(f"several versions of {package}: {', '.join(found)}")
    return whole, tuple(told)


def metrics_of(claim: Claim, task: str, paper: Paper | None) -> list[str]:
    """A task's metrics that count as its score: those named, those of the claim's table, or GLUE's columns."""
    printed = sorted({key[1] for key in (paper or {}).get(claim.table or "", {}) if key[0] == task})
    return list(claim.metrics) or printed or [column.metric for column in GLUE if column.task == task]


def values_of(runs: Mapping[int, Run], metrics: Sequence[str], step: str) -> dict[int, float]:
    """The mean of some metrics by seed, scores in percent; without the runs that lack one."""
    numbers = {seed: numbers_of(run, step) for seed, run in runs.items()}
    return {seed: statistics.mean(map(n.__getitem__, metrics)) for seed, n in numbers.items() if n.keys() >= {*metrics}}


def published_difference(
    claim: Claim, task: str, metrics: Sequence[str], one: Side, other: Side, cells: Cells, paper: Paper | None
) -> float | None:
    """What the papers print for a comparison, in points (a ratio for costs); None where they print none."""
    if paper is None:
        return None
    table = paper.get(claim.table or "", {})
    names = [side.variant.format(rank=cells.ranks.get(side.budget or "")) for side in (one, other)]
    differences = []
    for metric in metrics:
        whole = table.get((task, metric, one.method, str(one.budget), minus(*names)))
        if whole is not None:
            differences.append(whole.value)
            continue
        pair = [
            table.get(key) or scores(paper).get(key)
            for side, name in zip((one, other), names, strict=True)
            for key in [(task, metric, side.method, str(side.budget), name)]
        ]
        if pair[0] is None or pair[1] is None:
            return None
        costs = claim.kind == "cost"
        differences.append(pair[0].value / pair[1].value if costs else pair[0].value - pair[1].value)
    return statistics.mean(differences) if differences else None


def cost_limit(claim: Claim, metric: str, cells: Cells, paper: Paper | None) -> float | None:
    """The largest ratio of a metric that the claim's table prints."""
    found = [
        published_difference(claim, task, [metric], one, other, cells, paper)
        for one, other in claim.pairs()
        for task in claim.tasks
    ]
    return max((ratio for ratio in found if ratio is not None), default=None)


def versus(claim: Claim, one: Side, other: Side) -> str:
    """Both sides of a comparison in words."""
    texts = [side.method + (f" [{side.variant}]" if side.variant else "") for side in (one, other)]
    if one.budget == other.budget:
        return f"{texts[0]} - {texts[1]} at {one.budget}"
    return f"{texts[0]} {one.budget} - {texts[1]} {other.budget}"


def group_name(group: Mapping[str, Any]) -> str:
    """A group of maps in words."""
    return f"{group['half']} half" if "half" in group else "+".join(group["maps"])


def mean_rank(run: Run, group: Mapping[str, Any]) -> float:
    """The mean realised rank of a group of a run's maps: those of some short names, or of half of the layers."""
    ranks = run["ranks"]
    if "half" in group:
        layers = {path: layer_of(path) for path in ranks}
        depth = {stack: 1 + max(n for s, n in layers.values() if s == stack) for stack, _ in layers.values()}
        upper = group["half"] == "upper"
        chosen = [path for path, (stack, n) in layers.items() if (2 * n >= depth[stack]) == upper]
    else:
        patterns = [run["model"]["targets"][name] for name in group["maps"]]
        chosen = [path for path in ranks for pattern in patterns if matches(path, pattern)]
    return statistics.mean(ranks[path] for path in chosen)


def matches(path: str, pattern: str) -> bool:
    """Whether a module path is `pattern` for some {layer}."""
    head, _, tail = pattern.partition("{layer}")
    middle = path.removeprefix(head).removesuffix(tail)
    return path.startswith(head) and path.endswith(tail) and middle.isdecimal()
