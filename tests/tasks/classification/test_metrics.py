"""The metrics against numbers worked out by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest

from tasks.classification.metrics import MEASURES, TaskMetric
from tasks.classification.options import ClassificationTask


def score(name, references, predictions, regression=False):
    metric = TaskMetric([name], regression)
    return metric.compute(references=np.array(references), predictions=np.array(predictions))[name]


def test_accuracy():
    assert score("accuracy", [0, 1, 1, 0], [0, 1, 0, 0]) == 0.75


def test_f1_is_of_label_1():
    # label 1: 2 hits, 1 false alarm, 3 misses
    references = [1, 1, 1, 1, 1, 0, 0]
    predictions = [1, 1, 0, 0, 0, 1, 0]
    assert score("f1", references, predictions) == pytest.approx(2 * 2 / (2 * 2 + 1 + 3))


def test_matthews_from_a_table():
    tp, fn, fp, tn = 6, 2, 1, 3
    references = [1] * (tp + fn) + [0] * (fp + tn)
    predictions = [1] * tp + [0] * fn + [1] * fp + [0] * tn
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert score("matthews", references, predictions) == pytest.approx(expected)


def test_macro_f1_weighs_classes_alike():
    # class 0: 3 of 3 found, 1 false alarm; class 1: 1 of 2, none; class 2: 1 of 1, none
    references = [0, 0, 0, 1, 1, 2]
    predictions = [0, 0, 0, 1, 0, 2]
    expected = (Fraction(6, 7) + Fraction(2, 3) + 1) / 3
    assert score("macro_f1", references, predictions) == pytest.approx(float(expected))


def test_pearson():
    # deviations (-1, 0, 1) and (-4, -1, 5) / 3: covariance 9 / 3, squares 2 and 42 / 9
    assert score("pearson", [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], True) == pytest.approx(9 / math.sqrt(84))


def test_spearman_gives_ties_their_mean_rank():
    # ranks (1, 2.5, 2.5, 4) and (1, 3, 2, 4): covariance 4.5, squares 4.5 and 5
    references, predictions = [1.0, 2.0, 2.0, 9.0], [10.0, 30.0, 20.0, 31.0]
    assert score("spearman", references, predictions, True) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_stsb_is_the_mean_of_both():
    # order is perfect (Spearman 1), Pearson as above
    expected = (9 / math.sqrt(84) + 1) / 2
    assert score("pearson_spearman", [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], True) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["pearson", "spearman", "pearson_spearman"])
@pytest.mark.parametrize("constant", ["references", "predictions"])
def test_a_constant_side_has_correlation_0(name, constant):
    sides = {"references": [1.0, 2.0, 3.0], "predictions": [0.5, 4.0, 1.0], constant: [2.5, 2.5, 2.5]}
    assert score(name, regression=True, **sides) == 0.0


def test_a_constant_class_has_matthews_0():
    assert score("matthews", [0, 1, 1], [1, 1, 1]) == 0.0


def test_precision_recall_and_weighted_f1_by_hand():
    references, predictions = [0, 1, 1, 1, 0], [1, 1, 0, 1, 0]
    assert score("precision", references, predictions) == pytest.approx(2 / 3)
    assert score("recall", references, predictions) == pytest.approx(2 / 3)
    assert score("weighted_f1", references, predictions) == pytest.approx((2 * 1 / 2 + 3 * 2 / 3) / 5)
    assert score("precision", [0, 1], [0, 0]) == 0.0


def test_fractions_are_kept_in_regression():
    # as integers, the predictions would all be 0 and the correlation with them
    assert score("pearson", [0.1, 0.2, 0.3], [0.2, 0.4, 0.6], True) == pytest.approx(1.0)


def test_evaluations_do_not_add_up():
    metric = TaskMetric(["accuracy", "f1"], False)
    first = metric.compute(references=np.array([1, 1, 0]), predictions=np.array([0, 0, 1]))
    second = metric.compute(references=np.array([1, 0]), predictions=np.array([1, 0]))
    assert first == {"accuracy": 0.0, "f1": 0.0}
    assert second == {"accuracy": 1.0, "f1": 1.0}


def test_mnli_names_its_splits(compose):
    task = compose("task=mnli").task
    assert [task.metric_name("accuracy", split) for split in task.eval_splits] == [
        "accuracy_matched",
        "accuracy_mismatched",
    ]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_lone_split_adds_nothing(compose, split):
    assert compose("task=mrpc").task.metric_name("f1", split) == "f1"


def test_the_measures_are_the_allowed_ones():
    assert set(MEASURES) == set(ClassificationTask.known_metrics)
