"""Summaries of methods over several tasks, with bootstrap intervals stratified by task.

After Agarwal et al. 2021 (arXiv 2108.13264): the interquartile mean and the probability of improvement.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from adalora.statistics.seeds import Interval, Values, finite

DRAWS = 2_000

MethodScores = Mapping[str, Mapping[str, Values]]  # method -> task -> the scores of its seeds


@dataclass(frozen=True)
class Estimate:
    """A summary over tasks; the interval is None if a task has only one seed."""

    value: float
    interval: Interval | None


def mean_ranks(table: MethodScores) -> dict[str, Estimate]:
    """Each method's rank by mean score (1 is best, ties share the mean rank), averaged over tasks."""

    def ranks(scores: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        means = np.array([[part.mean() for part in method] for method in scores])
        return stats.rankdata(-means, axis=0).mean(axis=1)

    found = bootstrap(table, ranks)
    return dict(zip(table, found, strict=True))


def interquartile_means(table: MethodScores) -> dict[str, Estimate]:
    """The mean of the middle half of a method's scores, over all tasks and seeds."""

    def means(scores: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        return np.array([stats.trim_mean(np.concatenate(method), 0.25) for method in scores])

    return dict(zip(table, bootstrap(table, means), strict=True))


def improvement(table: MethodScores, one: str, other: str) -> Estimate:
    """P(a run of `one` scores above one of `other`), ties count half: Mann-Whitney U / (n m), averaged over tasks."""

    def chance(scores: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        a, b = scores
        wins = [np.sign(x[:, None] - y[None, :]).mean() / 2 + 0.5 for x, y in zip(a, b, strict=True)]
        return np.array([np.mean(wins)])

    return bootstrap({one: table[one], other: table[other]}, chance)[0]


def bootstrap(
    table: MethodScores, statistic: Callable[[Sequence[Sequence[np.ndarray]]], np.ndarray], draws: int = DRAWS
) -> list[Estimate]:
    """Bootstrap a statistic of all methods: seeds are resampled within each method and task; percentile intervals.

    Raises:
        ValueError: methods have different tasks, or a score isn't finite.
    """
    tasks = list(next(iter(table.values())))
    for method, scores in table.items():
        if set(scores) != set(tasks):
            raise ValueError(f"{method} has the tasks {', '.join(scores)}, not {', '.join(tasks)}")
    arrays = [[finite(scores[task]) for task in tasks] for scores in table.values()]
    values = statistic(arrays)
    if any(len(part) < 2 for method in arrays for part in method):
        return [Estimate(float(value), None) for value in values]
    rng = np.random.default_rng(0)
    drawn = np.array([statistic([[rng.choice(x, len(x)) for x in method] for method in arrays]) for _ in range(draws)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return [Estimate(float(v), (float(a), float(b))) for v, a, b in zip(values, low, high, strict=True)]
