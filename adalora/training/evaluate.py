"""Scores on the evaluation splits. The regulariser has no part in it (D-orth-eval)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from adalora.config.schema import Task
from tasks.metrics import TaskMetric, named


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits (batch, classes), or mean squared error of (batch, 1) for
    regression, in the logits' own precision."""
    if logits.shape[-1] == 1:
        return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


def evaluate(
    accelerator: Accelerator, model: nn.Module, loaders: Mapping[str, DataLoader], metric: TaskMetric, task: Task
) -> dict[str, float]:
    """The task's metrics on every split, and `loss`, the mean task loss over all rows."""
    results: dict[str, float] = {}
    model.eval()
    loss, rows = 0.0, 0
    for split, batches in loaders.items():
        logits, labels = predict(accelerator, model, batches)
        loss += task_loss(logits, labels).item() * len(labels)
        rows += len(labels)
        predictions = logits.squeeze(-1) if metric.regression else logits.argmax(-1)
        scores = metric.compute(predictions=as_array(predictions), references=as_array(labels))
        results |= {named(name, split, task): score for name, score in (scores or {}).items()}
    model.train()
    return results | {"loss": loss / rows}


@torch.inference_mode()
def predict(accelerator: Accelerator, model: nn.Module, batches: DataLoader) -> tuple[Tensor, Tensor]:
    """Logits (rows, classes) in fp32 and labels (rows), in the order of `batches`, on the CPU."""
    outputs, references = [], []
    for batch in batches:
        labels = batch.pop("labels")
        logits, labels = accelerator.gather_for_metrics((model(**batch).logits.float(), labels))
        outputs.append(logits)
        references.append(labels)
    return torch.cat(outputs).cpu(), torch.cat(references).cpu()


def as_array(values: Tensor) -> np.ndarray:
    """For `evaluate`, which wants numpy."""
    return values.double().numpy() if values.is_floating_point() else values.numpy()


class Samples(NamedTuple):
    """Some rows with what the model makes of them, for a person to read."""

    columns: list[str]
    rows: list[list[Any]]


@torch.inference_mode()
def sample_predictions(
    accelerator: Accelerator, model: nn.Module, batches: DataLoader, table: pa.Table, task: Task, count: int
) -> Samples:
    """`count` rows spread evenly over a split, run by this process alone.

    Columns: row, text_1, perhaps text_2, reference, prediction, and right and confidence, or error in a regression.
    """
    count = min(count, table.num_rows)
    picked = [i * table.num_rows // count for i in range(count)]
    model = accelerator.unwrap_model(model).eval()
    assert batches.collate_fn is not None
    batch = batches.collate_fn([batches.dataset[i] for i in picked])
    del batch["labels"]
    logits = model(**{name: tensor.to(accelerator.device) for name, tensor in batch.items()}).logits.float().cpu()
    model.train()
    chosen = table.take(picked).to_pydict()
    texts = [name for name in ("text_1", "text_2") if name in chosen]
    shown: tuple[list[Any], ...]
    if task.labels is None:
        predictions = logits.squeeze(-1).tolist()
        errors = [abs(p - r) for p, r in zip(predictions, chosen["label"], strict=True)]
        judged, shown = ["error"], (chosen["label"], predictions, errors)
    else:
        confidence, classes = logits.softmax(-1).max(-1)
        right = [p == r for p, r in zip(classes.tolist(), chosen["label"], strict=True)]
        references, predictions = ([task.labels[i] for i in ids] for ids in (chosen["label"], classes.tolist()))
        judged, shown = ["right", "confidence"], (references, predictions, right, confidence.tolist())
    rows = zip(picked, *(chosen[text] for text in texts), *shown, strict=True)
    return Samples(["row", *texts, "reference", "prediction", *judged], [list(row) for row in rows])
