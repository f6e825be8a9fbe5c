"""Scores on the evaluation splits. The regulariser has no part in it (D-orth-eval)."""

from collections.abc import Mapping

import numpy as np
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
