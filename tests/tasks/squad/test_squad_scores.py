"""Scores against the official rules: values recorded from them, and cases worked out by hand."""

import json
import math
from pathlib import Path

import pytest

from tasks.squad.scores import SquadMetric, normalised, scores, scores_v2

RECORDED = json.loads((Path(__file__).parent / "official.json").read_text())
OFFICIAL = {"exact": "exact_match", "f1": "f1"}


def recorded(version):
    """Invented questions: predictions, references, odds of no answer, and the official scores."""
    questions = RECORDED[version]["questions"]
    columns = ([question.get(name) for question in questions] for name in ("prediction", "answers", "no_answer"))
    return *columns, RECORDED[version]["scores"]


def test_v1_gives_the_recorded_scores():
    predictions, answers, _, expected = recorded("v1")
    found = scores(predictions, answers)
    assert {name: 100 * value for name, value in found.items()} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("threshold", [1.0, 0.5])
def test_v2_gives_the_recorded_scores(threshold):
    predictions, answers, odds, recorded_scores = recorded("v2")
    found = scores_v2(predictions, answers, odds, threshold)
    record = recorded_scores[str(threshold)]
    expected = {
        f"{ours}{measure}{unit}": record[f"{official}{short}{'_thresh' if unit else ''}"] / (1 if unit else 100)
        for short, measure in OFFICIAL.items()
        for ours, official, unit in [
            ("", "", ""), ("has_answer_", "HasAns_", ""), ("no_answer_", "NoAns_", ""), ("best_", "best_", ""),
            ("best_", "best_", "_threshold"),
        ]
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize(
    "text, plain",
    [
        ("The  Cat,\tsat!", "cat sat"),
        ("an A-team", "ateam"),  # punctuation goes first, so no article is left
        ("theory of a the", "theory of"),
        ("“curly” stays", "“curly” stays"),
        ("ÉTÉ", "été"),
        (" . ", ""),
    ],
)
def test_normalisation(text, plain):
    assert normalised(text) == plain


def test_the_best_reference_counts_for_each_measure():
    # against "big red dog": 2 common words of 2 and 3; against "red": 1 of 2 and 1
    found = scores(["red dog"], [["the big red dog", "red"]])
    assert found == pytest.approx({"exact_match": 0, "f1": 2 * 2 / (2 + 3)})


def test_words_count_as_often_as_they_occur():
    # common: one "to" and one "be", of 3 and 4 words
    assert scores(["to to be"], [["to be or not"]])["f1"] == pytest.approx(2 * 2 / (3 + 4))


def test_scores_are_means_over_questions():
    found = scores(["The cat!", "dog", "blue bird"], [["cat"], ["cow"], ["bird"]])
    assert found == pytest.approx({"exact_match": 1 / 3, "f1": (1 + 0 + 2 / 3) / 3})


def test_v1_gives_nothing_for_an_empty_prediction():
    assert scores([""], [["cat"]]) == {"exact_match": 0, "f1": 0}


# five questions by ascending odds; F1 of each as it stands, and what letting it in adds
PREDICTIONS = ["red dog", "cat", "cow", "", "bird"]
REFERENCES = [["dog"], ["cat"], [], [], ["bird"]]
ODDS = [-2.0, -1.0, 0.5, 1.0, 3.0]


def test_v2_by_hand():
    # at 0, the third is right for want of a prediction, the fifth wrong for it
    found = scores_v2(PREDICTIONS, REFERENCES, ODDS, 0.0)
    assert found == pytest.approx(
        {
            "exact_match": 3 / 5, "f1": (2 / 3 + 1 + 1 + 1) / 5,
            "has_answer_exact_match": 1 / 3, "has_answer_f1": (2 / 3 + 1) / 3,
            "no_answer_exact_match": 1, "no_answer_f1": 1,
            # none let in: 2; then 2, 3, 2, 2, 3 exact, and 2 2/3, 3 2/3, 2 2/3, 2 2/3, 3 2/3: the first best is named
            "best_exact_match": 3 / 5, "best_exact_match_threshold": -1.0,
            "best_f1": (3 + 2 / 3) / 5, "best_f1_threshold": -1.0,
        }
    )  # fmt: skip


@pytest.mark.parametrize("threshold", [-1.5, 0.0, 2.0])
def test_v2_a_threshold_is_the_same_as_dropped_predictions(threshold):
    dropped = ["" if odds > threshold else text for text, odds in zip(PREDICTIONS, ODDS, strict=True)]
    one, other = scores_v2(PREDICTIONS, REFERENCES, ODDS, threshold), scores_v2(dropped, REFERENCES, ODDS, math.inf)
    assert {name: one[name] for name in one if "best" not in name} == {
        k: v for k, v in other.items() if "best" not in k
    }


def test_v2_threshold_is_inclusive():
    assert scores_v2(["cat"], [["cat"]], [0.5], 0.5)["exact_match"] == 1
    assert scores_v2(["cat"], [["cat"]], [0.5], 0.4999)["exact_match"] == 0


def test_v2_best_can_be_to_answer_nothing():
    found = scores_v2(["cat", "dog"], [[], ["cow"]], [-1.0, 2.0], 0.0)
    assert (found["best_f1"], found["best_f1_threshold"]) == (0.5, 0.0)


def test_v2_leaves_out_parts_without_questions():
    assert not {"no_answer_f1", "no_answer_exact_match"} & set(scores_v2(["cat"], [["cat"]], [0.0], 0.0))
    assert not {"has_answer_f1", "has_answer_exact_match"} & set(scores_v2([""], [[]], [0.0], 0.0))


def test_v2_references_of_articles_only_are_none():
    assert scores_v2([""], [["the"]], [0.0], 0.0)["f1"] == 1
    assert scores_v2(["cat"], [["the", "cat"]], [0.0], 0.0)["f1"] == 1


def test_the_metric_takes_what_the_functions_take():
    references = [["dog"], ["cat", "a cat"]]
    assert SquadMetric().compute(predictions=["red dog", "cat"], references=references) == {
        "exact_match": 0.5,
        "f1": pytest.approx((2 / 3 + 1) / 2),
    }
    found = SquadMetric(threshold=0.0).compute(predictions=PREDICTIONS, references=REFERENCES, null_odds=ODDS)
    assert found == scores_v2(PREDICTIONS, REFERENCES, ODDS, 0.0)
