"""Dropout with masks that are cheap to draw on a CPU.

    y = x * m / (1 - p),   m ~ Bernoulli(1 - p)

torch draws a float per entry, which takes up to a fifth of a training step on a CPU. Here 64 random bits from the same
generator decide four entries. p is rounded to a multiple of 2^-16, which also enters the divisor
(docs/deviations.md: D-dropout-bits). On other devices torch's own dropout is used.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LANES = 2**16  # values of the 16 bits that decide one entry
ONE = 0x3F80  # the bits of 1.0 in bfloat16


class Dropout(nn.Dropout):
    """`nn.Dropout` with cheap masks."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Like `F.dropout`; x has any shape."""
    dropped = round(p * LANES)
    if not training or dropped == 0 or dropped == LANES or x.device.type != "cpu":
        return F.dropout(x, p, training)
    return _Dropout.apply(x, dropped)


def mask(shape: torch.Size, dropped: int) -> Tensor:
    """0 with probability dropped / 2^16, else 1, in bfloat16, which halves the memory that torch keeps in fp32."""
    n = shape.numel()
    drawn = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:n]
    # in place: comparing into another dtype takes another pass
    return torch.ge(drawn, dropped - LANES // 2, out=drawn).mul_(ONE).view(torch.bfloat16).view(shape)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        ctx.mask, ctx.scale = mask(x.shape, dropped), LANES / (LANES - dropped)
        return scaled(x, ctx.mask, ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return scaled(gradient, ctx.mask, ctx.scale), None


def scaled(x: Tensor, keep: Tensor, scale: float) -> Tensor:
    """x * keep * scale in one pass, rounded once (torch rounds the factor 1 / (1 - p) to x's dtype first)."""
    return torch.addcmul(x.new_zeros(()), x, keep.to(x.dtype), value=scale)


SWAPS: dict[type[nn.Module], type[nn.Module]] = {nn.Dropout: Dropout}
