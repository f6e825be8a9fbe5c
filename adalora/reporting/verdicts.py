"""Judge claims by our runs, comparison by comparison (docs/statistics.md has the rules)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from adalora.reporting.claims import Claim
from adalora.reporting.comparisons import FAILS, HOLDS, NOT_RUN, OPEN, Paper, Part, parts_of
from adalora.reporting.pairs import Cells
from adalora.reporting.results import Run
from adalora.reporting.variants import options
from adalora.statistics.paired import ALPHA, holm, seeds_needed

VERDICTS = ("reproduced", "partly", "not reproduced", "undecided", "not run")
ELSEWHERE = ("holds", "partly", "fails", "open", "not run")  # the same, for other backbones than the paper's


@dataclass(frozen=True)
class Verdict:
    """A claim with its comparisons."""

    claim: Claim
    parts: Sequence[Part]
    words: tuple[str, ...] = VERDICTS

    @property
    def verdict(self) -> str:
        """One of `words`: all parts hold; some hold; none holds but some fail; none is decided; none was run."""
        reproduced, partly, not_reproduced, undecided, not_run = self.words
        states = {part.state for part in self.parts}
        if states <= {NOT_RUN}:
            return not_run
        if states == {HOLDS}:
            return reproduced
        if HOLDS in states:
            return partly
        return not_reproduced if FAILS in states else undecided


Group = tuple[str, list[Verdict]]  # what the runs have in common, and the verdicts


def judge(claims: Sequence[Claim], runs: Sequence[Run], paper: Paper | None) -> list[Verdict]:
    """Judge every claim by some runs.

    Args:
        claims: the claims.
        runs: runs comparable with the paper's at the recipe's length, or runs on one other backbone.
        paper: the published numbers; None for other backbones, where the claimed difference is positive.
    """
    cells = Cells(runs if paper is None else [run for run in runs if not options(run)["length"]])
    words = ELSEWHERE if paper is None else VERDICTS
    return [Verdict(claim, corrected(parts_of(claim, cells, paper)), words) for claim in claims]


def judge_elsewhere(claims: Sequence[Claim], runs: Iterable[Run]) -> list[Group]:
    """Judge claims on every other backbone, set of rows and length; claims without runs are left out."""
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        chosen = options(run)
        rows = "not the official rows" if run["task"]["subset"] else ""
        groups[run["model"]["title"], rows, chosen["length"], run["precision"]].append(run)
    found = []
    for parts, group in sorted(groups.items()):
        verdicts = judge(claims, group, None)
        tried = [replace(each, parts=[part for part in each.parts if part.found is not None]) for each in verdicts]
        if any(verdict.parts for verdict in tried):
            found.append((", ".join(filter(None, parts)), [verdict for verdict in tried if verdict.parts]))
    return found


def corrected(parts: Sequence[Part]) -> list[Part]:
    """Correct the p-values of a claim's parts, and judge each part."""
    tested = {i: part.found.p for i, part in enumerate(parts) if part.found is not None and part.found.p is not None}
    ps = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [judged(part, ps.get(i), len(tested)) for i, part in enumerate(parts)]


def judged(part: Part, p: float | None, comparisons: int) -> Part:
    """Determine the state of a part.

    It holds if the difference has the claimed sign and p <= 0.05. It fails if it has the other sign and p <= 0.05, or
    if the whole 95 % interval is below half of the published difference. Otherwise it is open, with the number of seeds
    needed.
    """
    found = part.found
    if found is None:
        return part
    if part.size == 0:
        return replace(part, p=p, state=OPEN, notes=(*part.notes, "the table prints no difference"))
    difference = part.sign * found.mean
    if p is not None and p <= ALPHA and difference != 0:
        return replace(part, p=p, state=HOLDS if difference > 0 else FAILS)
    if part.size is not None and found.interval is not None:
        highest = max(part.sign * end for end in found.interval)
        if highest < abs(part.size) / 2:
            note = "the interval lies below half of the published difference"
            return replace(part, p=p, state=FAILS, notes=(*part.notes, note))
    expected = found.mean if part.size is None else part.size
    needed = None if part.spread is None else seeds_needed(expected, part.spread, max(1, comparisons), part.pairs)
    notes = part.notes
    if found.p is None:
        notes = (*notes, "one seed: no interval, no p")
    elif part.spread == 0:
        notes = (*notes, "all seeds are equal")
    return replace(part, p=p, state=OPEN, needed=needed, notes=notes)
