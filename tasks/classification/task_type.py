"""Classification and regression: the GLUE tasks, and R8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from tasks.batches import collator, predict
from tasks.classification.options import ClassificationTask
from tasks.classification.rows import check_rows, features, notes
from tasks.data import spread
from tasks.task_type import Batch, ReportProgress, Samples, Scores, Split, TaskType

if TYPE_CHECKING:
    import datasets
    from accelerate import Accelerator


class Classification(TaskType[ClassificationTask]):
    """Rows have `text_1`, optionally `text_2`, and `label`; predictions are logits (rows, classes)."""

    def check_rows(self, raw: pa.Table, where: str, training: bool) -> tuple[pa.Table, list[str]]:
        return check_rows(raw, self.task, where)

    def features(self, table: pa.Table, tokenizer: PreTrainedTokenizerBase, training: bool) -> datasets.Dataset:
        return features(table, tokenizer, self.task.max_length)

    def notes(self, table: pa.Table, features: datasets.Dataset) -> list[str]:
        return notes(features, self.task.max_length)

    def collate(self, tokenizer: PreTrainedTokenizerBase, multiple: int) -> Callable[[list[dict[str, Any]]], Batch]:
        return collator(DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple), ("input_ids", "label"))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        labels = batch["labels"]
        return task_loss(forward(model, batch), labels), len(labels)

    def evaluate(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        split: Split,
        tokenizer: PreTrainedTokenizerBase,
        report: ReportProgress,
    ) -> Scores:
        from tasks.classification.metrics import TaskMetric  # importing scikit-learn and scipy takes half a second

        logits = predict(accelerator, model, split, forward)
        labels = split.features.with_format("torch")["label"][:]
        regression = self.task.labels is None
        predictions = logits.squeeze(-1) if regression else logits.argmax(-1)
        metric = TaskMetric(self.task.metrics, regression)
        scores = metric.compute(predictions=as_array(predictions), references=as_array(labels))
        return Scores(scores or {}, task_loss(logits, labels).item(), len(labels), logits)

    def samples(self, split: Split, predictions: Tensor, count: int) -> Samples:
        """Columns: row, text_1, optionally text_2, reference, prediction, and right and confidence, or error for
        regression."""
        picked = spread(split.table.num_rows, count)
        chosen, logits = split.table.take(picked).to_pydict(), predictions[picked]
        texts = [name for name in ("text_1", "text_2") if name in chosen]
        shown: tuple[list[Any], ...]
        if self.task.labels is None:
            values = logits.squeeze(-1).tolist()
            errors = [abs(p - r) for p, r in zip(values, chosen["label"], strict=True)]
            judged, shown = ["error"], (chosen["label"], values, errors)
        else:
            confidence, classes = logits.softmax(-1).max(-1)
            right = [p == r for p, r in zip(classes.tolist(), chosen["label"], strict=True)]
            references, names = ([self.task.labels[i] for i in ids] for ids in (chosen["label"], classes.tolist()))
            judged, shown = ["right", "confidence"], (references, names, right, confidence.tolist())
        rows = zip(picked, *(chosen[text] for text in texts), *shown, strict=True)
        return Samples(["row", *texts, "reference", "prediction", *judged], [list(row) for row in rows])

    def save(self, split: Split, predictions: Tensor, folder: Path) -> None:
        """Write nothing: no official script reads labels."""


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Logits (batch, classes)."""
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits (batch, classes), or mean squared error of (batch, 1) for regression, in the logits'
    precision."""
    if logits.shape[-1] == 1:
        return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


def as_array(values: Tensor) -> np.ndarray:
    """Convert to numpy for `evaluate`."""
    return values.double().numpy() if values.is_floating_point() else values.numpy()


TASK_TYPE = Classification
