"""The methods' modules in fewer operations and fewer passes over memory: subclasses that replace their `forward`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from adalora.methods.adalora.layer import DoubletLinear, SVDLinear
from adalora.methods.increlora.layer import GrowingLinear
from adalora.methods.linear import AdaptedLinear
from adalora.methods.lora.layer import LoRALinear
from adalora.methods.lora_mini.layer import LoRAMiniLinear
from adalora.methods.lorta.layer import LoRTALinear, dense
from adalora.methods.low_rank import LowRankLinear
from adalora.methods.melora.layer import MELoRALinear
from adalora.methods.mora.layer import MoRALinear
from adalora.methods.prilora.layer import WatchedLinear
from adalora.methods.sora.layer import GatedLinear
from adalora.methods.tensors import compute_type, own_dtype


class FastLinear(AdaptedLinear):
    """Replaces autocast's casts: W and b are cast once while they are frozen, and x once per use.

    `together` (together.py) may hold results of the current forward pass that this module shares with others.
    """

    together: Any = None
    index = 0  # among these modules
    copies: Any = None  # what W and b were, the tensors themselves, and their copies

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(compute_type(x)))

    def base(self, x: Tensor) -> Tensor:
        return F.linear(x, *self.cast(x.dtype))

    def cast(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """W and b as `dtype`."""
        W, b = self.weight, self.bias
        if W.dtype == dtype or W.requires_grad or (b is not None and b.requires_grad):
            return W.to(dtype), None if b is None else b.to(dtype)
        tensors = [W] if b is None else [W, b]
        now = [dtype, *((t.data_ptr(), t._version) for t in tensors)]
        if self.copies is None or self.copies[0] != now:
            with torch.inference_mode(False), torch.no_grad():
                kept = [t.detach() for t in tensors]  # as long as they live, no other tensor has their addresses
                self.copies = now, kept, (W.to(dtype), None if b is None else b.to(dtype))
        return self.copies[2]


class FastLowRank(FastLinear, LowRankLinear):
    """Replaces y = W x + b + B A z by one function with a gradient written by hand, and computes the factors of modules
    of equal shape together."""

    def forward(self, x: Tensor) -> Tensor:
        low = x.to(compute_type(x))
        z = F.dropout(low, self.dropout, self.training) if self.dropout else None
        A, B = self.factors()
        y = low_rank_linear(low, *self.cast(low.dtype), A.to(low.dtype), B.to(low.dtype), z)
        return self.observed(y, x, low if z is None else z)

    def factors(self) -> tuple[Tensor, Tensor]:
        if self.together is not None and self.together.current is not None:
            return self.together.current[self.index]
        return super().factors()


def low_rank_linear(
    x: Tensor, W: Tensor, b: Tensor | None, A: Tensor, B: Tensor, dropped: Tensor | None = None
) -> Tensor:
    """y = x W^T + b + (z A^T) B^T.

    Args:
        x: (..., d_in); all other tensors have its dtype.
        W: (d_out, d_in).
        b: (d_out).
        A: (r, d_in).
        B: (d_out, r).
        dropped: z, x after dropout; None: z = x.
    """
    z = None if dropped is None else dropped.reshape(-1, dropped.shape[-1])
    return _LowRank.apply(x.reshape(-1, x.shape[-1]), z, W, b, A, B).reshape(*x.shape[:-1], len(W))


class _LowRank(torch.autograd.Function):
    """The low-rank products are accumulated in place, without temporaries of y's or x's size:

    u = z A^T;  y = x W^T + b + u B^T;   du = dy B;  dA = du^T z;  dB = dy^T u;  dx = dy W (+ du A);  dz = du A
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor | None, W: Tensor, b: Tensor | None, A: Tensor, B: Tensor) -> Tensor:
        u = (x if z is None else z) @ A.mT
        y = F.linear(x, W, b).addmm_(u, B.mT)
        ctx.save_for_backward(x if z is None or W.requires_grad else None, z, W, A, B, u)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, z, W, A, B, u = ctx.saved_tensors
        needs_x, needs_z, needs_W, needs_b, needs_A, needs_B = ctx.needs_input_grad
        seen = x if z is None else z
        with own_dtype(dy):  # a loop may call backward() inside autocast
            du = dy @ B
            dx = dy @ W if needs_x else None
            if dx is not None and z is None:
                dx.addmm_(du, A)
            return (
                dx,
                du @ A if needs_z else None,
                dy.mT @ x if needs_W else None,
                dy.sum(0) if needs_b else None,
                du.mT @ seen if needs_A else None,
                (u.mT @ dy).mT if needs_B else None,  # dy^T u would copy dy first
            )


class FastLoRAMiniLinear(FastLowRank, LoRAMiniLinear):
    """Scales the smallest factor of LoRA-Mini."""

    def factors(self) -> tuple[Tensor, Tensor]:
        return (self.lora_A_inner * self.scale) @ self.lora_A_outer, self.lora_B_outer @ self.lora_B_inner


class FastLoRTALinear(FastLinear, LoRTALinear):
    """Replaces LoRTA's dense update by low-rank products where they are cheaper, with K and all c computed together."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(compute_type(x))
        y, z = self.base(x), F.dropout(x, self.dropout, self.training)
        left, right = self.factors()
        (p, q), (r, d), tokens = self.grid, right.shape, x.numel() // self.in_features
        if tokens * r * (1 + p) > p * d * (r + tokens):  # multiplications per input slice, divided by d
            return y + F.linear(z, dense(left, right)).to(x.dtype)
        return y + F.linear(F.linear(z.unflatten(-1, (q, d)), right).flatten(-2), left).to(x.dtype)

    def products(self) -> tuple[Tensor, Tensor]:
        if self.together is not None and self.together.current is not None:
            return self.together.current
        return super().products()


def fast(kind: type, mixin: type) -> type:
    """A subclass of a module, sped up by a mixin."""
    return type(f"Fast{kind.__name__}", (mixin, kind), {})


FORMED = {kind: fast(kind, FastLowRank) for kind in (DoubletLinear, GatedLinear, LoRALinear, SVDLinear, WatchedLinear)}
"""Modules of low rank with one tensor for each factor."""
SWAPS = FORMED | {
    GrowingLinear: fast(GrowingLinear, FastLowRank),
    LoRAMiniLinear: FastLoRAMiniLinear,
    LoRTALinear: FastLoRTALinear,
    MELoRALinear: fast(MELoRALinear, FastLinear),
    MoRALinear: fast(MoRALinear, FastLinear),
}
globals().update({kind.__name__: kind for kind in SWAPS.values()})  # where pickle looks them up
