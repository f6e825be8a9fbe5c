"""Agreement of seeds on an order: mean Spearman correlation over all pairs, with a jackknife interval."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from adalora.statistics.over_tasks import Estimate
from adalora.statistics.seeds import CONFIDENCE, Values, finite


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
