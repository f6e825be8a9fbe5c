"""Summaries over tasks against hand counts and scipy."""

import numpy as np
import pytest
from scipy import stats

from adalora.statistics.over_tasks import improvement, interquartile_means, mean_ranks

TABLE = {
    "a": {"x": [3.0, 4.0], "y": [1.0, 1.0]},
    "b": {"x": [2.0, 2.0], "y": [2.0, 4.0]},
    "c": {"x": [1.0, 0.0], "y": [1.0, 1.0]},
}


def test_mean_ranks_share_ties():
    found = mean_ranks(TABLE)
    assert {name: each.value for name, each in found.items()} == {"a": 1.75, "b": 1.5, "c": 2.75}
    for each in found.values():
        assert each.interval[0] <= each.value <= each.interval[1]
    assert mean_ranks(TABLE) == found  # seeded


def test_the_interquartile_mean_leaves_out_the_quarters():
    found = interquartile_means({"a": {"x": [0.0, 5.0, 7.0, 100.0], "y": [-50.0, 6.0, 4.0, 8.0]}})["a"]
    assert found.value == pytest.approx((4 + 5 + 6 + 7) / 4)


def test_the_chance_of_improvement_is_mann_and_whitneys():
    rng = np.random.default_rng(0)
    table = {name: {task: rng.normal(size=6) + shift for task in "xyz"} for name, shift in (("a", 0.5), ("b", 0.0))}
    theirs = np.mean([stats.mannwhitneyu(table["a"][task], table["b"][task]).statistic / 36 for task in "xyz"])
    found = improvement(table, "a", "b")
    assert found.value == pytest.approx(theirs)
    assert found.interval[0] < theirs < found.interval[1]
    assert improvement(table, "b", "a").value == pytest.approx(1 - theirs)
    assert improvement({"a": {"x": [1.0, 1.0]}, "b": {"x": [1.0, 1.0]}}, "a", "b").value == 0.5


def test_one_seed_has_no_interval_and_other_tasks_are_refused():
    assert mean_ranks({"a": {"x": [1.0]}, "b": {"x": [2.0, 3.0]}})["a"].interval is None
    with pytest.raises(ValueError, match="b has the tasks y, not x"):
        mean_ranks({"a": {"x": [1.0]}, "b": {"y": [2.0]}})
    with pytest.raises(ValueError, match="finite"):
        mean_ranks({"a": {"x": [1.0, float("nan")]}, "b": {"x": [2.0, 3.0]}})


def test_the_interval_is_scipys_percentile_bootstrap():
    scores = np.random.default_rng(1).normal(size=12)
    found = interquartile_means({"a": {"x": scores}})["a"]
    trimmed = lambda x, axis: stats.trim_mean(x, 0.25, axis=axis)  # noqa: E731
    theirs = stats.bootstrap((scores,), trimmed, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert found.interval == pytest.approx(tuple(theirs), abs=0.1 * (theirs.high - theirs.low))
