"""Two methods over the same seeds: the paired difference, its interval, and an exact test."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from adalora.statistics.seeds import CONFIDENCE, Interval, Values, finite, t_interval

ALPHA = 0.05
POWER = 0.8
EXACT = 16  # pairs; up to here all 2^n signs are enumerated
RESAMPLES = 9_999  # of the signs beyond
MOST = 1_000  # seeds; more is as good as never

Scores = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Paired:
    """Differences d_i = one_i - other_i of n pairs, over one task or several.

    `mean` weighs tasks alike, whatever their number of seeds. `p` is two-sided; `smallest_p` is the least that n
    pairs can give, so a p of that size is all the evidence there could be.
    """

    n: int
    mean: float
    std: float | None  # of the differences; None for one pair or several tasks
    interval: Interval | None  # 95 %, Student's t over the pairs; None for one pair, no spread or several tasks
    p: float | None  # of the sign-flip test; None for one pair
    smallest_p: float | None


def paired(one: Scores, other: Scores) -> Paired | None:
    """The differences over the seeds that both have; None where there is none. Raises `ValueError` for NaN."""
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    d = finite([one[seed] - other[seed] for seed in seeds])
    p, least = sign_flip(d)
    std = float(d.std(ddof=1)) if len(d) > 1 else None
    return Paired(len(d), float(d.mean()), std, t_interval(d), p, least)


def paired_over_tasks(tasks: Sequence[tuple[Scores, Scores]]) -> Paired | None:
    """The mean over tasks of their mean differences; the test flips signs within tasks, over all (task, seed) pairs.

    None where a task has no pair. Raises `ValueError` for NaN.
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


def stratified_interval(parts: Sequence[np.ndarray], confidence: float = CONFIDENCE) -> Interval | None:
    """Interval for the mean of k task means: the tasks' variances add up to sum s_j^2 / n_j / k^2, with Welch's and
    Satterthwaite's degrees of freedom. None where no task has any spread."""
    k = len(parts)
    terms = np.array([part.var(ddof=1) / len(part) for part in parts])
    if terms.sum() <= 1e-18:
        return None
    freedom = terms.sum() ** 2 / sum(term**2 / (len(part) - 1) for term, part in zip(terms, parts, strict=True))
    mean, error = np.mean([part.mean() for part in parts]), math.sqrt(terms.sum()) / k
    low, high = stats.t.interval(confidence, freedom, mean, error)
    return float(low), float(high)


def sign_flip(differences: Values, weights: np.ndarray | None = None) -> tuple[float | None, float | None]:
    """Two-sided p of sum w_i d_i under random signs of d_i, and the smallest that n differences allow.

    If the methods are alike, each difference is as likely to have the other sign. All 2^n signs are enumerated up to
    n = `EXACT`, so p is exact and at least 2 / 2^n: 0.25 at 3 seeds, 0.0625 at 5, below 0.05 from 6 on. Beyond, it is
    estimated from `RESAMPLES` seeded draws.

    Returns:
        (None, None) for a single difference.
    """
    d = finite(differences)
    if len(d) < 2:
        return None, None
    w = np.full(len(d), 1 / len(d)) if weights is None else weights
    exact = len(d) <= EXACT
    draws = 2 ** len(d) if exact else RESAMPLES
    found = stats.permutation_test(
        (d * w,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=draws, batch=10_000, rng=0,
    )  # fmt: skip
    return float(found.pvalue), 2 / draws if exact else 2 / (draws + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction for p-values that are shown together."""
    return [float(p) for p in multipletests(ps, alpha=ALPHA, method="holm")[1]] if len(ps) > 1 else list(ps)


def seeds_needed(difference: float, std: float, comparisons: int = 1, pairs: int = 1) -> int | None:
    """How many seeds would decide a true mean difference: with `POWER` at `ALPHA`, two-sided, by the paired t test.

    At least as many as the exact test needs to fall below alpha at all: 2 / 2^(n pairs) <= alpha. Corrected as the
    first of Holm's `comparisons`.

    Args:
        difference: of the means, in the unit of `std`.
        std: of a seed's paired difference, the mean over its tasks where there are several.
        pairs: a seed's, one a task.

    Returns:
        None where the difference is 0, or the number beyond `MOST`.
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
    """The two-sided paired t test's power at n pairs and a mean difference of `effect` standard deviations.

    scipy's noncentral t distribution is NaN at scattered points, mostly in far tails; a hair beside them it isn't.
    """
    nearby = (TTestPower().power(effect * (1 - shrink), n, alpha) for shrink in (0, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2))
    return next((float(value) for value in nearby if not math.isnan(value)), 1.0)
