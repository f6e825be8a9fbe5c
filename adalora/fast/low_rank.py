"""Maps with a low-rank increment in few operations and few passes over memory.

Replaces the plain `forward` of the maps in `SWAPS`: base and increment are one function with a gradient written by
hand, and the factors of maps of equal shape are computed together at the start of a forward pass.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from adalora.fast.cast import CastOnce
from adalora.fast.together import Together
from adalora.methods.adalora.layer import AdaLoRA, DoubletLinear, SVDLinear
from adalora.methods.increlora.layer import GrowingLinear
from adalora.methods.lora.layer import LoRA, LoRALinear
from adalora.methods.lora_mini.layer import LoRAMiniLinear
from adalora.methods.low_rank import LowRankLinear, alike, stacks
from adalora.methods.prilora.layer import WatchedLinear
from adalora.methods.sora.layer import GatedLinear
from adalora.tensors import compute_type, own_dtype


class FastLowRank(CastOnce, LowRankLinear):
    """y = W x + b + B A dropout(x) with A and B from `factors`, which here may be those of the forward pass."""

    together: "FormedFactors | None" = None
    index = 0  # among the maps whose factors are computed together

    def factors(self) -> tuple[Tensor, Tensor]:
        if self.together is not None and self.together.current is not None:
            return self.together.current[self.index]
        return super().factors()

    def forward(self, x: Tensor) -> Tensor:
        return self.product(*self.inputs_of(x))

    def inputs_of(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x in the dtype of the products, and after dropout; None without dropout."""
        x = x.to(compute_type(x))
        return x, F.dropout(x, self.dropout, self.training) if self.dropout else None

    def product(self, x: Tensor, dropped: Tensor | None) -> Tensor:
        """Base and increment, of `inputs_of`."""
        A, B = self.factors()  # noqa: N806
        return low_rank_linear(x, *self.cast(x.dtype), A.to(x.dtype), B.to(x.dtype), dropped)


class FastLoRALinear(FastLowRank, LoRALinear):
    """LoRA's map."""


class FastSVDLinear(FastLowRank, SVDLinear):
    """AdaLoRA's map of triplets."""


class FastDoubletLinear(FastLowRank, DoubletLinear):
    """AdaLoRA's map of doublets."""


class FastGatedLinear(FastLowRank, GatedLinear):
    """SoRA's map."""


class FastWatchedLinear(FastLowRank, WatchedLinear):
    """PRILoRA's map."""

    def forward(self, x: Tensor) -> Tensor:
        self.record(x)
        return super().forward(x)


class FastGrowingLinear(FastLowRank, GrowingLinear):
    """IncreLoRA's map."""

    def forward(self, x: Tensor) -> Tensor:
        x, dropped = self.inputs_of(x)
        return self.watched(self.product(x, dropped), x if dropped is None else dropped)


class FastLoRAMiniLinear(FastLowRank, LoRAMiniLinear):
    """LoRA-Mini's map, which scales the smallest factor."""

    def factors(self) -> tuple[Tensor, Tensor]:
        return (self.lora_A_inner * self.scale) @ self.lora_A_outer, self.lora_B_outer @ self.lora_B_inner


def low_rank_linear(
    x: Tensor,
    W: Tensor,  # noqa: N803
    b: Tensor | None,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    dropped: Tensor | None = None,
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
    z = None if dropped is None else dropped.flatten(0, -2)
    return _LowRank.apply(x.flatten(0, -2), z, W, b, A, B).unflatten(0, x.shape[:-1])


class _LowRank(torch.autograd.Function):
    """The low-rank products are accumulated in place, without temporaries of y's or x's size:

    u = z A^T;  y = x W^T + b + u B^T;   du = dy B;  dA = du^T z;  dB = dy^T u;  dx = dy W (+ du A);  dz = du A
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        z: Tensor | None,
        W: Tensor,  # noqa: N803
        b: Tensor | None,
        A: Tensor,  # noqa: N803
        B: Tensor,  # noqa: N803
    ) -> Tensor:
        u = (x if z is None else z) @ A.mT
        y = F.linear(x, W, b).addmm_(u, B.mT)
        ctx.save_for_backward(x if z is None or W.requires_grad else None, z, W, A, B, u)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, z, W, A, B, u = ctx.saved_tensors  # noqa: N806
        needs_x, needs_z, needs_W, needs_b, needs_A, needs_B = ctx.needs_input_grad  # noqa: N806
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


Factors = list[tuple[Tensor, Tensor]]


class FormedFactors(Together[Any, Factors]):
    """`factors` of every map, in a few operations per shape."""

    def __init__(self, model: nn.Module, modules: Mapping[str, LowRankLinear]) -> None:
        super().__init__(model, modules)
        self.groups = alike((m.lora_A.shape, m.lora_B.shape) for m in self.modules)
        for index, module in enumerate(self.modules):
            module.index = index
        self.kept: tuple[int, list[tuple[Tensor, Tensor]]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"kept": None}

    def results(self) -> Factors:
        """In the dtype of the products."""
        out: list[Any] = [None] * len(self.modules)
        _, found = self.kept = self.age(), stacks(self.modules)
        for group, (A, B) in zip(self.groups, found, strict=True):  # noqa: N806
            factor: Any = self.modules[group[0]].scale
            if diagonals := [d for i in group if (d := self.modules[i].slots()[1]) is not None]:
                factor = torch.stack(diagonals).reshape(len(A), -1, 1) * factor
            dtype = compute_type(A)
            pairs = zip((A * factor).to(dtype).unbind(), B.to(dtype).unbind(), strict=True)
            for i, pair in zip(group, pairs, strict=True):
                out[i] = pair
        return out

    def stacks(self) -> list[tuple[Tensor, Tensor]]:
        """`lora_A` (m, r, d_in) and `lora_B` (m, d_out, r) of each shape, for a regulariser.

        Reuses the stacks of the last forward pass, so that gradients are summed once. New ones are made if there was no
        forward pass, the parameters have changed since, or the stacks were used before (a graph lasts for one backward
        pass).
        """
        found, self.kept = self.kept, None
        if found is not None:
            version, kept = found
            if version == self.age() and kept[0][0].requires_grad == torch.is_grad_enabled():
                return kept
        return stacks(self.modules)

    def age(self) -> int:
        """A value that changes with every optimizer step."""
        return self.modules[0].lora_A._version


class FastLoRA(LoRA):
    """Its regulariser reuses the stacks of the forward pass."""

    together: FormedFactors

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        return self.together.stacks()


class FastAdaLoRA(AdaLoRA):
    """Its regulariser reuses the stacks of the forward pass."""

    together: FormedFactors

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        return self.together.stacks()


SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    DoubletLinear: FastDoubletLinear,
    GatedLinear: FastGatedLinear,
    GrowingLinear: FastGrowingLinear,
    LoRALinear: FastLoRALinear,
    LoRAMiniLinear: FastLoRAMiniLinear,
    SVDLinear: FastSVDLinear,
    WatchedLinear: FastWatchedLinear,
}
FORMED = (FastDoubletLinear, FastGatedLinear, FastLoRALinear, FastSVDLinear, FastWatchedLinear)
"""Maps with one tensor for each factor."""
