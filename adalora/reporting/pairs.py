"""Pair the runs of two sides by seed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from adalora.published import NO_BUDGET
from adalora.reporting.claims import Side
from adalora.reporting.results import Run, budget_of, folder_of
from adalora.reporting.variants import SETTING, options, several_versions
from adalora.variant import Variant, variant_of


class Cells:
    """Runs by cell as named in claims, regardless of length."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs: dict[tuple[str, str, str, Variant], list[Run]] = defaultdict(list)
        for run in runs:
            variant = variant_of(run, length=False)
            self.runs[run["task"]["name"], run["method"]["name"], budget_of(run), variant].append(run)

    def of(self, task: str, side: Side) -> list[Run]:
        """The runs of one side on a task."""
        budget = "any" if side.method in NO_BUDGET else side.budget
        return self.runs.get((task, side.method, str(budget), side.variant), [])

    def headlines(self, task: str) -> list[str]:
        """The headline metric of a task's runs."""
        return sorted(
            {run["task"]["headline"] for (each, *_), runs in self.runs.items() if each == task for run in runs}
        )


def sides(
    task: str, one: Side, other: Side, cells: Cells, same_machine: bool = False
) -> tuple[dict[int, Run], dict[int, Run], tuple[str, ...]]:
    """The runs of both sides by seed, for the setting with most pairs, and notes on what was left out."""
    first, second = cells.of(task, one), cells.of(task, other)
    groups: dict[tuple[Any, ...], tuple[list[Run], list[Run]]] = defaultdict(lambda: ([], []))
    for runs, place in ((first, 0), (second, 1)):
        for run in runs:
            chosen, machine = options(run), run["hardware"].get("name") if same_machine else None
            groups[(*(chosen[name] for name in SETTING), machine)][place].append(run)
    best: tuple[dict[int, Run], dict[int, Run], tuple[str, ...]] = {}, {}, ()
    for a, b in groups.values():
        (x, told), (y, told_too) = one_setting(a), one_setting(b)
        both = sorted(x.keys() & y.keys())
        if len(both) > len(best[0]):
            precision = x[both[0]]["precision"]
            notes = [*told, *told_too] + ([f"{task}: in {precision}"] if precision != "fp32" else [])
            best = {s: x[s] for s in both}, {s: y[s] for s in both}, tuple(dict.fromkeys(notes))
    if len(groups) > 1 and best[0]:
        best = (
            *best[:2],
            (*best[2], f"{task}: {len(groups)} settings of data, weights, length or precision; one is used"),
        )
    return best


def one_setting(runs: Sequence[Run]) -> tuple[dict[int, Run], tuple[str, ...]]:
    """Runs by seed, without seeds that have several runs, and notes on those and on mixed package versions."""
    by_seed: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_seed[run["seed"]].append(run)
    told = []
    for seed, same in by_seed.items():
        if len(same) > 1:
            told.append(f"seed {seed} left out, it has several runs ({', '.join(map(folder_of, same))})")
    whole = {seed: same[0] for seed, same in sorted(by_seed.items()) if len(same) == 1}
    for package, found in several_versions(list(whole.values())).items():
        told.append(f"several versions of {package}: {', '.join(found)}")
    return whole, tuple(told)
