"""Evaluation. The loss doesn't include the regulariser (D-orth-eval)."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from adalora.methods.linear import merged, unmergeable
from tasks.task_type import Split, TaskType


def evaluate(
    accelerator: Accelerator,
    model: nn.Module,
    task_type: TaskType,
    splits: Sequence[Split],
    tokenizer: PreTrainedTokenizerBase,
    report_progress: Callable[[str, int, int], None],
) -> tuple[dict[str, float], list[Any]]:
    """Compute the task's metrics on every split, `loss` (mean task loss over all but final splits), and the
    predictions by split.

    Slow evaluations call `report_progress` with the split's name, the rows done and the total.
    """
    task, predictions = task_type.task, []
    results: dict[str, float] = {}
    loss = weight = 0.0
    model.eval()
    merges = task.generates is not None and unmergeable(model) is None  # generation runs the model once a token
    for split in splits:
        with accelerator.autocast(), merged(model) if merges else nullcontext():
            scores = task_type.evaluate(accelerator, model, split, tokenizer, partial(report_progress, split.name))
        results |= {task.metric_name(name, split.name): score for name, score in scores.metrics.items()}
        if not task.is_final(split.name):
            loss += scores.loss * scores.weight
            weight += scores.weight
        predictions.append(scores.predictions)
    model.train()
    return results | {"loss": loss / weight}, predictions
