"""Summary of one cell: its seeds' values and an interval for their mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
BCA_FROM = 10  # seeds; with fewer, BCa's coverage is far too low (docs/statistics.md)
RESAMPLES = 9_999  # bootstrap draws, seeded, so that a report repeats to the bit
DRAWS = 10_000  # of rows

Interval = tuple[float, float]
Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Summary:
    """Summary of n seeds. One seed, or equal values, give no information on the spread."""

    n: int
    median: float
    mean: float
    std: float | None  # sample standard deviation (ddof 1); None for one seed
    interval: Interval | None  # 95 %, Student's t; None for one seed or no spread
    bca: Interval | None  # 95 %, bootstrap; from n = 10 on


def summary(values: Values) -> Summary:
    """Summarise the values of n seeds.

    Raises:
        ValueError: there are no values, or one isn't finite.
    """
    x = finite(values)
    n = len(x)
    std = float(x.std(ddof=1)) if n > 1 else None
    bca = bca_interval(x) if n >= BCA_FROM else None
    return Summary(n, float(np.median(x)), float(x.mean()), std, t_interval(x), bca)


def finite(values: Values) -> np.ndarray:
    """Convert to an array, and reject values that aren't finite. Raises `ValueError`."""
    x = np.asarray(values, dtype=float)
    if not x.size:
        raise ValueError("no value to summarise")
    if not np.isfinite(x).all():
        raise ValueError(f"not all values are finite: {', '.join(f'{value:g}' for value in x)}")
    return x


def spread(x: np.ndarray) -> bool:
    """Whether the values differ by more than rounding."""
    return len(x) > 1 and float(np.ptp(x)) > 1e-9 * max(1.0, float(np.abs(x).max()))


def t_interval(values: Values) -> Interval | None:
    """mean -+ t_{n-1, (1+c)/2} s / sqrt(n), exact for normal values; None without spread."""
    x = finite(values)
    if not spread(x):
        return None
    low, high = stats.t.interval(CONFIDENCE, len(x) - 1, x.mean(), x.std(ddof=1) / math.sqrt(len(x)))
    return float(low), float(high)


def ratio_interval(numerators: Values, denominators: Values) -> Interval:
    """Percentile bootstrap of sum(numerators) / sum(denominators) that resamples pairs of both, such as the bits and
    bytes of articles."""
    found = stats.bootstrap(
        (finite(numerators), finite(denominators)), lambda n, d, axis: n.sum(axis) / d.sum(axis), paired=True,
        n_resamples=DRAWS, confidence_level=CONFIDENCE, method="percentile", rng=0,
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def bca_interval(values: Values, resamples: int = RESAMPLES) -> Interval | None:
    """Bias-corrected and accelerated bootstrap of the mean (Efron 1987); None without spread."""
    x = finite(values)
    if not spread(x):
        return None
    found = stats.bootstrap((x,), np.mean, n_resamples=resamples, confidence_level=CONFIDENCE, method="BCa", rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
