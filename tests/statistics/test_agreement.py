"""Agreement of seeds against scipy's correlations, the jackknife written out, and simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from adalora.statistics.over_tasks import mean_correlation


def test_it_is_the_mean_of_scipy_s_correlations_over_all_pairs():
    vectors = np.random.default_rng(1).integers(0, 4, (6, 36))  # ranks tie
    pairs = [stats.spearmanr(a, b).statistic for a, b in itertools.combinations(vectors, 2)]
    found = mean_correlation(vectors)
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.interval[0] < found.value < found.interval[1]


def test_the_interval_is_the_jackknife_s():
    vectors = np.random.default_rng(1).normal(size=(5, 20))
    without = [mean_correlation(np.delete(vectors, i, axis=0)).value for i in range(5)]
    s = np.sqrt(4 / 5 * np.sum((np.array(without) - np.mean(without)) ** 2))
    low, high = mean_correlation(vectors).interval
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 4) * s)


def test_equal_orders_agree_wholly_and_opposite_ones_not_at_all():
    assert mean_correlation([[1, 2, 3], [10, 20, 30], [0, 5, 6]]).value == pytest.approx(1.0)
    assert mean_correlation([[1, 2, 3], [3, 2, 1]]).value == pytest.approx(-1.0)
    assert mean_correlation([[1, 2, 3], [3, 2, 1]]).interval is None


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """The modules are given and the seeds are drawn: 36 values with noise, the truth from 2,000 of them."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=36)
    seeds = lambda n: common + rng.normal(size=(n, 36))  # noqa: E731
    truth = mean_correlation(seeds(2_000)).value
    intervals = [mean_correlation(seeds(5)).interval for _ in range(400)]
    held = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.90 <= held <= 0.99


@pytest.mark.parametrize(
    "vectors, message",
    [
        ([[1, 2]], "needs two vectors"),
        ([[1, 1], [1, 2]], "no order"),
        ([[1, float("nan")], [1, 2]], "not all values are finite"),
    ],
)
def test_what_has_no_order_is_refused(vectors, message):
    with pytest.raises(ValueError, match=message):
        mean_correlation(vectors)
