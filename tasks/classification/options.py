"""Options of a classification or regression task."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from adalora.options import require
from tasks.options import Served, Task

OF_TWO = ("f1", "precision", "recall")  # of label 1
OF_CLASSES = ("accuracy", *OF_TWO, "macro_f1", "weighted_f1", "matthews")
OF_NUMBERS = ("pearson", "spearman", "pearson_spearman")


@dataclass
class ClassificationTask(Task):
    """Classification of one or two texts, or regression if `labels` is None."""

    type: ClassVar[str] = "classification"
    models: ClassVar[dict[str, Served]] = {
        "deberta-v2": Served("DebertaV2ForSequenceClassification", ("pooler", "classifier")),
    }
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    peft_type: ClassVar[str] = "SEQ_CLS"
    known_metrics: ClassVar[tuple[str, ...]] = (*OF_CLASSES, *OF_NUMBERS)
    scored: ClassVar[tuple[str, ...]] = (*Task.scored, "labels")

    text: list[str] = MISSING  # one or two text columns, in order
    label: str = MISSING
    labels: list[str] | None = MISSING  # label names in order; null for regression
    label_range: list[float] | None = MISSING  # regression only

    @property
    def outputs(self) -> int:
        """Number of classes; 1 for regression."""
        return len(self.labels) if self.labels else 1

    @property
    def classes(self) -> list[str]:
        return list(self.labels or [])

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.text) in (1, 2), f"task.text={self.text}: a row has one text or two")
        require(self.label not in self.text, f"task.label={self.label} is in task.text, too: a label is no input")
        what, fitting = "regression", list(OF_NUMBERS)
        if self.label_range is not None:
            require(self.labels is None, "task.label_range is for numbers: set task.labels or task.label_range to null")
            good = len(self.label_range) == 2 and self.label_range[0] < self.label_range[1]
            require(good, f"task.label_range={self.label_range}: give the lowest and the highest number")
        if self.labels is not None:
            twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
            require(
                not twice,
                f"task.labels has {' and '.join(twice)} twice: name every class once (without quotes, YAML takes yes, "
                "on and true for one value, and no, off and false)",
            )
            require(len(self.labels) > 1, f"task.labels={self.labels}: a classification needs two labels or more")
            what = f"classification of {len(self.labels)} classes"
            fitting = [name for name in OF_CLASSES if name not in OF_TWO or len(self.labels) == 2]
        for metric in self.metrics:
            require(
                metric in fitting,
                f"task.labels={self.labels or 'null'} makes {self.name} a {what}, which has no {metric}: give other "
                f"labels, or task.metrics and task.headline out of {', '.join(fitting)}",
            )


OPTIONS = ClassificationTask
