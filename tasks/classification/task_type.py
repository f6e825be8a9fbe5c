"""Classification and regression: the GLUE tasks, and R8."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch.nn.functional as F
from accelerate import Accelerator
from datasets.table import InMemoryTable
from torch import Tensor, nn
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from adalora.errors import UserError
from adalora.files.writing import write_text
from tasks.batches import collator, predict
from tasks.classification.options import ClassificationTask
from tasks.columns import as_labels, as_numbers, as_text, blank, class_names, meaning, needed, total
from tasks.data import spread
from tasks.task_type import Batch, ReportProgress, Samples, Scores, Split, TaskType


class Classification(TaskType[ClassificationTask]):
    """Rows have `text_1`, optionally `text_2`, and `label`; predictions are logits (rows, classes)."""

    def check_rows(self, raw: pa.Table, where: str, training: bool) -> tuple[pa.Table, list[str]]:
        """Labels become ids or floats. Says how many texts are blank, and which classes have no row."""
        needed(raw, [*self.task.text, self.task.label], where, "rename it, or set task.text and task.label")
        columns = {f"text_{i}": as_text(raw, name, where) for i, name in enumerate(self.task.text, start=1)}
        counts = {name: total(blank(texts)) for name, texts in zip(self.task.text, columns.values(), strict=True)}
        notes = [f"{count:,} rows have a blank {name}" for name, count in counts.items() if count]
        if self.task.labels is None:
            low, high = self.task.label_range or (float("-inf"), float("inf"))
            return pa.table(columns | {"label": as_numbers(raw, self.task.label, where, low, high)}), notes
        stored = class_names(raw, self.task.label)
        if stored is not None and [*map(meaning, map(str, stored))] != [*map(meaning, self.task.labels)]:
            raise UserError(
                f"{where}: labels are named {stored}, task={self.task.name} expects {self.task.labels} in this order"
            )
        ids = as_labels(raw, self.task.label, where, self.task.labels)
        there = set(pc.unique(ids).to_pylist())
        absent = [name for i, name in enumerate(self.task.labels) if i not in there]
        notes += [f"no row is {' or '.join(map(repr, absent))}"] if absent else []
        return pa.table(columns | {"label": ids}), notes

    def features(self, table: pa.Table, tokenizer: PreTrainedTokenizerBase, training: bool) -> datasets.Dataset:
        """`input_ids` (at most `task.max_length` with special tokens; the longer text is truncated first), `label`,
        `length`, and whether the row is `cut`."""
        texts = [column for column in ("text_1", "text_2") if column in table.column_names]

        def encode(rows: dict[str, list[str]]) -> dict[str, list]:
            found = tokenizer(*(rows[text] for text in texts), truncation=True, max_length=self.task.max_length)
            ids = found["input_ids"]
            cut = [bool(encoding.overflowing) for encoding in found.encodings or ()]
            return {"input_ids": ids, "length": [len(row) for row in ids], "cut": cut}

        rows = datasets.Dataset(InMemoryTable(table))
        return rows.map(encode, batched=True, remove_columns=texts, keep_in_memory=True)

    def notes(self, table: pa.Table, features: datasets.Dataset) -> list[str]:
        cut = total(features.data["cut"])
        share = f"{cut:,} of {len(features):,} texts ({cut / len(features):.1%})"
        return [f"{share} are truncated to task.max_length={self.task.max_length} tokens"] if cut else []

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
        """Write `predictions/<split>.jsonl`: of every row its place, reference and prediction, and the probability of
        every class."""
        names, labels = self.task.labels, split.table["label"].to_pylist()
        if names is None:
            found = [{"reference": r, "prediction": p} for r, p in zip(labels, predictions[:, 0].tolist(), strict=True)]
        else:
            both = zip(labels, predictions.argmax(-1).tolist(), predictions.softmax(-1).tolist(), strict=True)
            found = [{"reference": names[r], "prediction": names[p], "probabilities": shares} for r, p, shares in both]
        text = "".join(json.dumps({"row": i} | row, ensure_ascii=False) + "\n" for i, row in enumerate(found))
        write_text(folder / "predictions" / f"{split.name}.jsonl", text)


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
