"""Paired differences: the exact test against enumeration by hand, Holm and power against published examples."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from adalora.statistics.paired import (
    EXACT,
    holm,
    paired,
    paired_over_tasks,
    power,
    seeds_needed,
    sign_flip,
    stratified_interval,
)


def enumerated(differences, weights):
    """Two-sided p from all signs, written out: twice the smaller tail."""
    sums = [
        sum(s * d * w for s, d, w in zip(signs, differences, weights, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    seen = sums[0]
    tails = [sum(x >= seen - 1e-12 for x in sums), sum(x <= seen + 1e-12 for x in sums)]
    return min(1.0, 2 * min(tails) / len(sums))


def test_equal_sums_of_rounded_scores_are_equal():
    """Of RTE: k / 277, in percent. With any signs the sum is odd, so at least as far from 0 as this one, -1."""
    assert sign_flip(100 * np.array([1, -5, -1, -2, 8, 0, -3, 1]) / 277)[0] == 1.0


@pytest.mark.parametrize("n", [2, 3, 5, 8])
@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_the_sign_flip_test_is_exact(n, shift):
    rng = np.random.default_rng(n)
    d, w = rng.normal(size=n).round(2) + shift, rng.random(n)
    assert sign_flip(d)[0] == pytest.approx(enumerated(d, [1 / n] * n))
    assert sign_flip(d, w)[0] == pytest.approx(enumerated(d, w))


@pytest.mark.parametrize("n, least", [(3, 0.25), (5, 0.0625), (6, 0.03125), (10, 2 / 1024)])
def test_the_smallest_p_that_n_allows(n, least):
    assert sign_flip(np.arange(1.0, n + 1)) == (least, least)
    assert sign_flip(-np.arange(1.0, n + 1)) == (least, least)
    assert sign_flip(np.zeros(n))[0] == 1.0


def test_one_pair_tells_nothing():
    assert sign_flip([3.0]) == (None, None)
    found = paired({1: 3.0}, {1: 1.0})
    assert (found.n, found.mean, found.std, found.interval, found.p) == (1, 2.0, None, None, None)


def test_many_pairs_are_drawn_and_agree_with_the_normal_limit():
    d = np.random.default_rng(0).normal(0.3, 1.0, size=60)
    assert len(d) > EXACT
    p, least = sign_flip(d)
    limit = 2 * stats.norm.sf(abs(d.sum()) / math.sqrt((d**2).sum()))
    assert p == pytest.approx(limit, abs=0.01)
    assert least == 2 / 10_000
    assert sign_flip(d)[0] == p  # seeded


def test_pairs_are_of_the_same_seed():
    found = paired({1: 2.0, 2: 5.0, 3: 9.0, 7: 0.0}, {3: 8.0, 1: 1.5, 2: 4.5, 9: 1.0})
    d = np.array([0.5, 0.5, 1.0])
    assert (found.n, found.mean) == (3, pytest.approx(d.mean()))
    theirs = stats.ttest_rel([2.0, 5.0, 9.0], [1.5, 4.5, 8.0]).confidence_interval(0.95)
    assert found.interval == pytest.approx((theirs.low, theirs.high))
    assert (found.p, found.smallest_p) == (0.25, 0.25)
    assert paired({1: 2.0}, {2: 1.0}) is None


def test_over_tasks_weighs_tasks_alike_and_can_decide_with_five_seeds():
    many = ({seed: 1.0 + seed / 10 for seed in range(10)}, dict.fromkeys(range(10), 0.0))
    few = ({1: 3.0, 2: 3.2}, {1: 0.0, 2: 0.0})
    found = paired_over_tasks([many, few])
    assert found.n == 12
    assert found.mean == pytest.approx((1.45 + 3.1) / 2)
    assert found.p == found.smallest_p == 2 / 2**12
    eight = [({s: 0.2 + 0.1 * s for s in range(5)}, dict.fromkeys(range(5), 0.0)) for _ in range(8)]
    assert paired_over_tasks(eight).p < 0.05  # a single task's least is 0.0625
    assert paired_over_tasks([many, ({}, {})]) is None


def test_the_interval_over_two_tasks_is_welchs():
    a, b = np.array([1.0, 2.0, 4.0]), np.array([-10.0, -9.0, -3.0, 0.0])
    theirs = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    low, high = stratified_interval([a, b])  # of the mean of the two means, half their sum
    assert (2 * low, 2 * high) == pytest.approx((theirs.low, theirs.high))


def test_holm_by_hand():
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1, never falling."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_statsmodels():
    for n in (1, 2, 7, 40):
        ps = np.random.default_rng(n).uniform(size=n).round(1) ** 2  # with ties
        assert holm(ps) == multipletests(ps, method="holm")[1].tolist()


def test_seeds_needed_is_cohens_table():
    """Two-sided, alpha 0.05, power 0.8: 34 pairs for d = 0.5, 15 for d = 0.8 (from n at which the power is reached)."""
    assert seeds_needed(0.5, 1.0) == 34
    assert seeds_needed(-0.8, 1.0) == 15
    assert seeds_needed(10.0, 0.1) == 6  # what the exact test needs at all
    assert seeds_needed(10.0, 0.1, comparisons=8) == 9
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(0.001, 1.0) is None
    assert seeds_needed(1.0, 0.0) == 6


def test_nan_is_not_averaged():
    with pytest.raises(ValueError, match="not all values are finite"):
        paired({1: math.nan, 2: 1.0}, {1: 0.0, 2: 0.0})


@pytest.mark.parametrize("effect", [0.2, 0.8, 1.0, 3.0, 5.0, 8.0, 10.0, 12.0, 20.0])
def test_power_is_a_number_and_grows_with_the_pairs(effect):
    """Where scipy has one, it is simulation's; where it has none (3 at 16 pairs, 8 at 2), it is its neighbours'."""
    found = [power(effect, n) for n in range(2, 40)]
    assert all(0 < p <= 1 for p in found)
    assert all(b >= a - 0.02 for a, b in itertools.pairwise(found))
    draws = np.random.default_rng(0).normal(effect, 1.0, size=(4000, 4))
    decided = np.abs(draws.mean(axis=1)) / draws.std(axis=1, ddof=1) * 2 > stats.t.ppf(0.975, 3)
    assert power(effect, 4) == pytest.approx(decided.mean(), abs=0.03)
