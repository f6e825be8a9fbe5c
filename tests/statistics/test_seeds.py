"""Intervals for the mean of a few seeds, against closed forms and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from adalora.statistics.seeds import BCA_FROM, summary, t_interval


def test_the_t_interval_is_the_textbook_s():
    """0.95, n = 4: t_{3, 0.975} = 3.182446 in any table."""
    found = summary([1.0, 2.0, 3.0, 6.0])
    half = 3.182446305 * math.sqrt(14 / 3) / 2
    assert (found.n, found.median, found.mean) == (4, 2.5, 3.0)
    assert found.std == pytest.approx(math.sqrt(14 / 3))
    assert found.interval == pytest.approx((3 - half, 3 + half))


def test_it_is_what_scipys_test_inverts():
    x = np.random.default_rng(0).normal(size=7)
    theirs = stats.ttest_1samp(x, 0.0).confidence_interval(0.95)
    assert t_interval(x) == pytest.approx((theirs.low, theirs.high))


def test_bca_comes_with_the_tenth_seed():
    x = np.random.default_rng(1).exponential(size=10)
    assert summary(x[: BCA_FROM - 1]).bca is None
    low, high = summary(x).bca
    assert low < x.mean() < high
    assert high - x.mean() > x.mean() - low  # the longer tail is on the right
    assert summary(x).bca == (low, high)  # seeded


@pytest.mark.parametrize("values", [[86.28], [86.28, 86.28, 86.28], [0.1 + 0.2, 0.3, 0.3]])
def test_no_spread_no_interval(values):
    found = summary(values)
    assert found.interval is None and found.bca is None
    assert (found.std is None) == (len(values) == 1)


@pytest.mark.parametrize("values, message", [([], "no value"), ([1.0, math.nan], "not all values are finite: 1, nan")])
def test_what_cannot_be_summarised(values, message):
    with pytest.raises(ValueError, match=message):
        summary(values)
