"""Exact match and F1 as in the official SQuAD v1.1 and v2.0 evaluation scripts, as fractions.

docs/deviations.md: D-best-threshold.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII punctuation, as in the official scripts
References = Sequence[Sequence[str]]


def normalised(text: str) -> str:
    """Lower-case, remove punctuation and articles, and collapse whitespace."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def f1(prediction: str, reference: str) -> float:
    """2 p r / (p + r) with precision p and recall r over the bags of words of two normalised texts; 0 without a common
    word. Computed in the official scripts' order, so that best thresholds can't differ by rounding."""
    words, expected = prediction.split(), reference.split()
    common = (Counter(words) & Counter(expected)).total()
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def best(prediction: str, references: Sequence[str]) -> tuple[float, float]:
    """(exact match, F1), each the best over the references; all texts normalised."""
    return float(prediction in references), max(f1(prediction, reference) for reference in references)


def scores(predictions: Sequence[str], references: References) -> dict[str, float]:
    """SQuAD v1.1: means of `exact_match` and `f1` over the questions, in [0, 1].

    Args:
        predictions: one text per question.
        references: one or more correct answers per question.
    """
    values = [
        best(normalised(prediction), [normalised(answer) for answer in answers])
        for prediction, answers in zip(predictions, references, strict=True)
    ]
    return dict(zip(("exact_match", "f1"), np.mean(values, axis=0).tolist(), strict=True))


def scores_v2(
    predictions: Sequence[str], references: References, null_odds: Sequence[float] | np.ndarray, threshold: float
) -> dict[str, float]:
    """SQuAD v2.0: `exact_match` and `f1` over all questions and over each kind, and their best values.

    A question without references is correct (F1 1) without a prediction, and wrong otherwise. If a question's null odds
    are above the threshold, it counts as unanswered. `best_*` are the scores at the best threshold in hindsight,
    `best_*_threshold`: candidates are 0 with all predictions dropped, then every question's null odds in ascending
    order, and the first of equally good ones wins. Parts without questions are left out, as in the official script.

    Args:
        predictions: one text per question, "" for none. For meaningful best values give the text that would be
            answered regardless of null odds (D-best-threshold).
        references: the correct answers of every question, none for unanswerable ones.
        null_odds: odds of "no answer": a probability or a score difference.
        threshold: in the unit of `null_odds`.
    """
    answerable = np.array([len(answers) > 0 for answers in references])
    predicted = np.array([bool(prediction) for prediction in predictions])
    odds = np.asarray(null_odds, dtype=np.float64)
    values = []
    for prediction, answers in zip(predictions, references, strict=True):
        said = normalised(prediction)
        expected = [
            text for text in map(normalised, answers) if text
        ]  # a reference that normalises to nothing doesn't count
        values.append(best(said, expected) if expected else (float(not said),) * 2)

    results, hindsight = {}, {}
    for name, raw in zip(("exact_match", "f1"), np.array(values).T, strict=True):
        final = np.where(odds > threshold, ~answerable, raw)
        results[name] = final.mean().item()
        for part, members in (("has_answer", answerable), ("no_answer", ~answerable)):
            if members.any():
                results[f"{part}_{name}"] = final[members].mean().item()
        # start with all predictions dropped: each one added gains its score, or loses an unanswerable question
        order = np.argsort(odds, kind="stable")
        gains = np.where(answerable, raw, -predicted.astype(float))[order]
        totals = np.cumsum([(~answerable).sum(), *gains])
        at = int(totals.argmax())
        hindsight[f"best_{name}"] = (totals[at] / len(odds)).item()
        hindsight[f"best_{name}_threshold"] = odds[order[at - 1]].item() if at else 0.0
    return results | hindsight


class SquadMetric(evaluate.Metric):
    """`scores`, or with a threshold `scores_v2`, whose `compute` also takes `null_odds`."""

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = threshold
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
        if self.threshold is not None:
            features["null_odds"] = datasets.Value("float64")
        return evaluate.MetricInfo(
            description="Exact match and F1 of extractive question answering, as fractions.",
            citation="Rajpurkar et al. 2016; Rajpurkar et al. 2018",
            features=datasets.Features(features),
        )

    def _compute(
        self, predictions: Sequence[str], references: References, null_odds: Sequence[float] | None = None
    ) -> dict[str, float]:
        if self.threshold is None:
            return scores(predictions, references)
        assert null_odds is not None, "`compute` has checked that it is there"
        return scores_v2(predictions, references, null_odds, self.threshold)
