"""Summaries of methods over several tasks, with bootstrap intervals stratified by task.

After Agarwal et al. 2021 (arXiv 2108.13264): the interquartile mean and the probability of improvement.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from adalora.statistics.seeds import CONFIDENCE, Interval, Values, finite

DRAWS = 2_000

MethodScores = Mapping[str, Mapping[str, Values]]  # method -> task -> the scores of its seeds
Scores = Sequence[Sequence[np.ndarray]]  # by method and task: (draw, seed)


@dataclass(frozen=True)
class Estimate:
    """A summary over tasks; the interval is None if a task has only one seed."""

    value: float
    interval: Interval | None


def mean_ranks(table: MethodScores) -> dict[str, Estimate]:
    """Each method's rank by mean score (1 is best, ties share the mean rank), averaged over tasks."""

    def ranks(scores: Scores) -> np.ndarray:
        means = np.array([[part.mean(axis=-1) for part in method] for method in scores])  # method, task, draw
        return stats.rankdata(-means, axis=0).mean(axis=1)

    found = bootstrap(table, ranks)
    return dict(zip(table, found, strict=True))


def interquartile_means(table: MethodScores) -> dict[str, Estimate]:
    """The mean of the middle half of a method's scores, over all tasks and seeds."""

    def means(scores: Scores) -> np.ndarray:
        return np.array([stats.trim_mean(np.concatenate(method, axis=-1), 0.25, axis=-1) for method in scores])

    return dict(zip(table, bootstrap(table, means), strict=True))


def improvement(table: MethodScores, one: str, other: str) -> Estimate:
    """P(a run of `one` scores above one of `other`), ties count half: Mann-Whitney U / (n m), averaged over tasks."""

    def chance(scores: Scores) -> np.ndarray:
        signs = [np.sign(x[..., :, None] - y[..., None, :]).mean(axis=(-2, -1)) for x, y in zip(*scores, strict=True)]
        return np.mean(signs, axis=0, keepdims=True) / 2 + 0.5

    return bootstrap({one: table[one], other: table[other]}, chance)[0]


def bootstrap(table: MethodScores, statistic: Callable[[Scores], np.ndarray]) -> list[Estimate]:
    """Bootstrap a statistic of all methods: seeds are resampled within each method and task; percentile intervals.

    Args:
        table: the scores.
        statistic: from scores of shape (draw, seed) to one value per method and draw.

    Raises:
        ValueError: methods have different tasks, or a score isn't finite.
    """
    tasks = list(next(iter(table.values())))
    for method, scores in table.items():
        if set(scores) != set(tasks):
            raise ValueError(f"{method} has the tasks {', '.join(scores)}, not {', '.join(tasks)}")
    arrays = [[finite(scores[task])[None] for task in tasks] for scores in table.values()]
    values = statistic(arrays)[:, 0]
    if any(part.size < 2 for method in arrays for part in method):
        return [Estimate(float(value), None) for value in values]
    rng = np.random.default_rng(0)
    drawn = statistic([[rng.choice(part[0], (DRAWS, part.size)) for part in method] for method in arrays])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=1)
    return [Estimate(float(v), (float(a), float(b))) for v, a, b in zip(values, low, high, strict=True)]


def mean_correlation(vectors: Sequence[Values]) -> Estimate:
    """The mean of Spearman's rho over all pairs of n vectors, theta = sum_{i<j} rho_ij / (n (n - 1) / 2).

    Pairs have vectors in common, so the interval comes from the jackknife over vectors: with theta_(i) computed without
    the i-th, s^2 = (n - 1) / n sum_i (theta_(i) - mean theta_(.))^2, and theta -+ t_{n-1} s clipped to [-1, 1].

    Args:
        vectors: one per seed, of equal length, none constant.

    Returns:
        The estimate; its interval is None for fewer than three vectors.

    Raises:
        ValueError: there are fewer than two vectors, or one has NaN or is constant.
    """
    if len(vectors) < 2:
        raise ValueError("a correlation needs two vectors")
    orders = np.array([stats.rankdata(finite(vector)) for vector in vectors])
    if (np.ptp(orders, axis=1) == 0).any():
        raise ValueError("a constant vector has no order")
    rho, n = np.corrcoef(orders), len(orders)
    total = (rho.sum() - n) / 2
    theta = total / (n * (n - 1) / 2)
    if n < 3:
        return Estimate(float(theta), None)
    without = (total - (rho.sum(axis=1) - 1)) / ((n - 1) * (n - 2) / 2)
    s = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * s
    return Estimate(float(theta), (max(-1.0, float(theta) - reach), min(1.0, float(theta) + reach)))
