"""Metrics as `evaluate.Metric` modules, computed by scikit-learn and scipy.

docs/deviations.md: D-stsb-metric, D-mnli-metric.
"""

from collections.abc import Callable, Sequence

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, precision_score, recall_score

Values = Sequence[float] | np.ndarray


def _correlation(function: Callable[..., tuple[float, float]]) -> Callable[[Values, Values], float]:
    """A correlation, 0 if one side is constant, as for a collapsed model (scipy returns NaN)."""

    def measure(references: Values, predictions: Values) -> float:
        if np.ptp(references) == 0 or np.ptp(predictions) == 0:
            return 0.0
        return float(function(references, predictions)[0])

    return measure


pearson, spearman = _correlation(pearsonr), _correlation(spearmanr)

MEASURES: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": accuracy_score,
    "f1": f1_score,  # F1 of label 1, as in GLUE
    "macro_f1": lambda references, predictions: f1_score(references, predictions, average="macro"),
    "weighted_f1": lambda references, predictions: f1_score(references, predictions, average="weighted"),
    "precision": lambda references, predictions: precision_score(references, predictions, zero_division=0),
    "recall": recall_score,  # it and precision: of label 1
    "matthews": matthews_corrcoef,
    "pearson": pearson,
    "spearman": spearman,
    "pearson_spearman": lambda r, p: (pearson(r, p) + spearman(r, p)) / 2,  # the paper's metric for STS-B
}


class TaskMetric(evaluate.Metric):
    """The metrics of one task, as fractions; `names` are keys of `MEASURES`."""

    def __init__(self, names: Sequence[str], regression: bool) -> None:
        self.names, self.regression = list(names), regression
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        kind = datasets.Value("float64" if self.regression else "int64")
        return evaluate.MetricInfo(
            description=f"{', '.join(self.names)}",
            citation="",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions: Values, references: Values) -> dict[str, float]:
        return {name: float(MEASURES[name](references, predictions)) for name in self.names}
