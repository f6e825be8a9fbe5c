"""Collate rows to batches, and collect predictions in row order."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from tasks.task_type import Batch, Split


def collator(
    collate: Callable[[list[dict[str, Any]]], Any], columns: Sequence[str]
) -> Callable[[list[dict[str, Any]]], Batch]:
    """Apply one of transformers' collators to these columns; attention masks come from its padding."""

    def batch(rows: list[dict[str, Any]]) -> Batch:
        return dict(collate([{name: row[name] for name in columns} for row in rows]))

    return batch


@torch.inference_mode()
def predict(
    accelerator: Accelerator, model: nn.Module, split: Split, forward: Callable[[nn.Module, Batch], Tensor]
) -> Tensor:
    """Collect the outputs of `forward` for every feature, (features, ..., n), in order, on the CPU. If n differs
    between batches, it is padded with -inf."""
    parts = []
    for batch in split.batches:
        found = forward(model, batch).float()
        found = accelerator.pad_across_processes(found, dim=found.dim() - 1, pad_index=float("-inf"))
        parts.append(accelerator.gather_for_metrics(found).cpu())
    widest = max(part.shape[-1] for part in parts)
    out = torch.cat([F.pad(part, (0, widest - part.shape[-1]), value=float("-inf")) for part in parts])
    return torch.empty_like(out).index_copy_(0, split.order, out)
