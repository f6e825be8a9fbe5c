"""Two methods over the same seeds: paired difference, interval, and exact test."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestPower

from adalora.statistics.seeds import CONFIDENCE, Interval, Values, finite, t_interval

ALPHA = 0.05
POWER = 0.8
EXACT = 16  # up to so many pairs all 2^n signs are enumerated
RESAMPLES = 9_999  # random sign vectors beyond that
MOST = 1_000  # most seeds that are reported as needed

SeedScores = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Paired:
    """Differences d_i = one_i - other_i of n pairs, over one task or several.

    `mean` weights tasks equally, regardless of their number of seeds. `p` is two-sided; `smallest_p` is the smallest
    value possible with n pairs.
    """

    n: int
    mean: float
    std: float | None  # of the differences; None for one pair or several tasks
    interval: Interval | None  # 95 %; None for one pair or no spread
    p: float | None  # of the sign-flip test; None for one pair
    smallest_p: float | None


def paired(one: SeedScores, other: SeedScores) -> Paired | None:
    """Compare two methods over their common seeds; None if there are none. Raises `ValueError` for NaN."""
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    d = finite([one[seed] - other[seed] for seed in seeds])
    p, least = sign_flip(d)
    std = float(d.std(ddof=1)) if len(d) > 1 else None
    return Paired(len(d), float(d.mean()), std, t_interval(d), p, least)


def paired_over_tasks(tasks: Sequence[tuple[SeedScores, SeedScores]]) -> Paired | None:
    """Compare the mean over tasks of the mean differences; the test flips the signs of all (task, seed) pairs.

    None if a task has no pair. Raises `ValueError` for NaN.
    """
    found = [[one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())] for one, other in tasks]
    if not found or not all(found):
        return None
    d = finite([value for part in found for value in part])
    weights = np.array([1 / (len(found) * len(part)) for part in found for _ in part])
    p, least = sign_flip(d, weights)
    interval = None
    if len(found) == 1:
        interval = t_interval(d)
    elif all(len(part) > 1 for part in found):
        interval = stratified_interval([np.asarray(part) for part in found])
    return Paired(len(d), float(d @ weights), None, interval, p, least)


def stratified_interval(parts: Sequence[np.ndarray]) -> Interval | None:
    """Interval for the mean of k task means, with variance sum s_j^2 / n_j / k^2 and the degrees of freedom of Welch
    and Satterthwaite. None if no task has any spread."""
    k = len(parts)
    terms = np.array([part.var(ddof=1) / len(part) for part in parts])
    if terms.sum() <= 1e-18:
        return None
    freedom = terms.sum() ** 2 / sum(term**2 / (len(part) - 1) for term, part in zip(terms, parts, strict=True))
    mean, error = np.mean([part.mean() for part in parts]), math.sqrt(terms.sum()) / k
    low, high = stats.t.interval(CONFIDENCE, freedom, mean, error)
    return float(low), float(high)


def sign_flip(differences: Values, weights: np.ndarray | None = None) -> tuple[float | None, float | None]:
    """Two-sided p of sum w_i d_i under random signs of d_i, and the smallest possible p for n differences.

    If the methods are equal, each difference is equally likely to have the opposite sign. Up to n = `EXACT` all 2^n
    signs are enumerated, so p is exact and at least 2 / 2^n: 0.25 for 3 seeds, 0.0625 for 5, below 0.05 from 6 on.
    Beyond that, p is estimated from `RESAMPLES` seeded draws.

    Sums are rounded to 1e-9 of the largest term, so that equal ones are equal.

    Returns:
        (None, None) for a single difference.
    """
    d = finite(differences)
    if len(d) < 2:
        return None, None
    terms = d if weights is None else d * weights
    terms = terms / (np.abs(terms).max() or 1.0)
    exact = len(d) <= EXACT
    draws = 2 ** len(d) if exact else RESAMPLES
    found = stats.permutation_test(
        (terms,), lambda x, axis: x.sum(axis=axis).round(9), permutation_type="samples", vectorized=True,
        n_resamples=draws, batch=10_000, rng=0,
    )  # fmt: skip
    return float(found.pvalue), 2 / draws if exact else 2 / (draws + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction of n p-values: of the i-th smallest, max over j <= i of (n - j + 1) p_j.

    Written out because statsmodels' collects garbage at every call, which takes 0.2 s in a process that has torch.
    """
    p = np.asarray(ps, dtype=float)
    order = p.argsort()
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected.tolist()


def seeds_needed(difference: float, std: float, comparisons: int = 1, pairs: int = 1) -> int | None:
    """Number of seeds with which the two-sided paired t test detects a mean difference with `POWER` at `ALPHA`.

    At least as many as the exact test needs to reach alpha at all: 2 / 2^(n pairs) <= alpha. alpha is that of the first
    step of Holm's correction over `comparisons`.

    Args:
        difference: difference of the means, in the unit of `std`.
        std: standard deviation of a seed's paired difference, averaged over tasks if there are several.
        pairs: pairs per seed, one per task.

    Returns:
        None if the difference is 0, or more than `MOST` seeds are needed.
    """
    alpha = ALPHA / comparisons
    least = max(2, math.ceil(math.log2(2 / alpha) / pairs))
    if difference == 0:
        return None
    if std == 0:
        return least
    effect = abs(difference) / std
    n = bisect_left(range(MOST + 1), True, lo=2, key=lambda n: power(effect, n, alpha) >= POWER)
    return None if n > MOST else max(n, least)


def power(effect: float, n: int, alpha: float = ALPHA) -> float:
    """Power of the two-sided paired t test with n pairs, for a mean difference of `effect` standard deviations.

    scipy's noncentral t distribution is NaN at isolated points, mostly in the far tails; nearby points are used there.
    """
    nearby = (TTestPower().power(effect * (1 - shrink), n, alpha) for shrink in (0, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2))
    return next((float(value) for value in nearby if not math.isnan(value)), 1.0)
