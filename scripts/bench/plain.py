"""Every method's step with its plain code (`fast=false`) and sped up, without dropout."""

from statistics import median
from typing import Any

import torch

from adalora.methods.discovery import METHODS
from scripts.bench.growth import USUAL, of_layers
from scripts.bench.side import Side

WITHOUT_DROPOUT = (
    "model.config.hidden_dropout_prob=0",
    "model.config.attention_probs_dropout_prob=0",
    "model.classifier_dropout=0",
)


def measure(rounds: int, precision: str) -> dict[str, Any]:
    """Alternate plain and fast steps of every method at budget 0.3M on three layers, and compare one step's gradients.

    Args:
        rounds: pairs of steps.
        precision: fp32, bf16 or fp16 (only on CUDA).
    """
    found = {}
    for name in sorted(METHODS):
        options = [*of_layers(USUAL["layers"]), *WITHOUT_DROPOUT]
        spec = {"side": "ours", "method": name, "precision": precision}
        sides = [Side(spec | {"options": [*options, f"fast={fast}"]}) for fast in ("false", "true")]
        plain, fast = (gradients(side) for side in sides)
        scale = max(gradient.abs().max().item() for gradient in plain)
        batch = {"lengths": [USUAL["length"]] * USUAL["rows"]}
        pairs = []
        for turn in range(rounds + 1):
            order = sides if turn % 2 else sides[::-1]
            seconds = {side: side.answer({"do": "step"} | batch)["seconds"] for side in order}
            if turn:
                pairs.append(seconds[sides[1]] / seconds[sides[0]])
        operations = [side.answer({"do": "operations"} | batch)["operations"] for side in sides]
        found[name] = {
            "difference": max((a - b).abs().max().item() for a, b in zip(plain, fast, strict=True)) / scale,
            "time": median(pairs),
            "least": min(pairs),
            "most": max(pairs),
            "operations": operations[1] / operations[0],
        }
    return {"precision": precision, "pairs": rounds, "methods": found}


def gradients(side: Side) -> list[torch.Tensor]:
    """Gradients of one step's loss, after every trained tensor got values, so that the increment isn't 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in side.trained:
            p.add_(torch.randn(p.shape, generator=generator).to(p.device), alpha=0.02)
    with torch.autocast(side.device.type, side.low, enabled=side.low is not None):
        loss = side.loss(side.batch([USUAL["length"]] * USUAL["rows"]))
    (loss + side.regulariser()).backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in side.trained]
    for p in side.trained:
        p.grad = None
    return found
