"""Linear maps with a low-rank increment, in few operations and few passes over memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from adalora.methods.linear import AdaptedLinear, SharedFactors
from adalora.tensors import compute_type, own_dtype


class LowRankLinear(AdaptedLinear):
    """y = W x + b + B A dropout(x), with A (r, d_in) and B (d_out, r) from `factors`.

    By default A = s diag(d) `lora_A` and B = `lora_B`, where s is `scale` and d (r) is `diagonal`, or ones if that is
    None.
    """

    lora_A: Any  # noqa: N815
    lora_B: Any  # noqa: N815
    scale: Any
    dropout: float

    place = 0  # index among the maps whose factors are computed together

    @property
    def diagonal(self) -> Tensor | None:
        """d, or None."""
        return None

    def factors(self) -> tuple[Tensor, Tensor]:
        """A and B; in a forward pass of the model, those computed at its start."""
        for shared in self.shared:
            if (found := shared.formed()) is not None:
                return found[2 * self.place], found[2 * self.place + 1]
        d = self.diagonal
        return self.lora_A * (self.scale if d is None else d.reshape(-1, 1) * self.scale), self.lora_B

    def increment(self, x: Tensor) -> Tensor:
        A, B = self.factors()  # noqa: N806
        return F.linear(F.linear(F.dropout(x, self.dropout, self.training), A), B)

    def delta_weight(self) -> Tensor:
        A, B = self.factors()  # noqa: N806
        return B @ A

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_type(x)
        x = x.to(dtype)
        if self.base_only:
            return F.linear(x, *self.base(dtype))
        return self.product(x, F.dropout(x, self.dropout, self.training) if self.dropout else None)

    def product(self, x: Tensor, dropped: Tensor | None) -> Tensor:
        """Base and increment of x, in its dtype; `dropped` is x after dropout, None without dropout."""
        A, B = self.factors()  # noqa: N806
        return low_rank_linear(x, *self.base(x.dtype), A.to(x.dtype), B.to(x.dtype), dropped)


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


class FormedFactors(SharedFactors):
    """The factors of many maps, computed at the start of a forward pass: a few operations per shape, not per map."""

    def __init__(self, modules: Sequence[LowRankLinear]) -> None:
        super().__init__()
        groups: dict[Any, list[int]] = {}
        for place, module in enumerate(modules):
            module.shared, module.place = (self,), place
            groups.setdefault((module.lora_A.shape, module.lora_B.shape), []).append(place)
        self.groups = [(places, [modules[place] for place in places]) for places in groups.values()]
        self.count = len(modules)
        self._stacks: tuple[int, list[tuple[Tensor, Tensor]]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_stacks": None}

    def products(self) -> tuple[Tensor, ...]:
        """A and B of every map, in the dtype of the products."""
        out: list[Any] = [None] * (2 * self.count)
        stacks = self._stack()
        self._stacks = self._age(), stacks
        for (places, modules), (A, B) in zip(self.groups, stacks, strict=True):  # noqa: N806
            factor: Any = modules[0].scale
            diagonals = [d for module in modules if (d := module.diagonal) is not None]
            if diagonals:
                factor = torch.stack(diagonals).reshape(len(A), -1, 1) * factor
            dtype = compute_type(A)
            for place, a, b in zip(places, (A * factor).to(dtype).unbind(), B.to(dtype).unbind(), strict=True):
                out[2 * place], out[2 * place + 1] = a, b
        return tuple(out)

    def stacks(self) -> list[tuple[Tensor, Tensor]]:
        """`lora_A` (m, r, d_in) and `lora_B` (m, d_out, r) of each shape, for a regulariser.

        Reuses the stacks of the last forward pass, so that gradients are summed once. New ones are made if there was no
        forward pass, the parameters have changed since, or the stacks were used before (a graph lasts for one backward
        pass).
        """
        found, self._stacks = self._stacks, None
        if found is not None:
            version, stacks = found
            if version == self._age() and stacks[0][0].requires_grad == torch.is_grad_enabled():
                return stacks
        return self._stack()

    def _stack(self) -> list[tuple[Tensor, Tensor]]:
        pairs = (([m.lora_A for m in modules], [m.lora_B for m in modules]) for _, modules in self.groups)
        return [(torch.stack(A), torch.stack(B)) for A, B in pairs]

    def _age(self) -> int:
        """A value that changes with every optimizer step."""
        return self.groups[0][1][0].lora_A._version

    def formed(self) -> tuple[Tensor, ...] | None:
        """The factors of the current forward pass; None outside of one."""
        return self._formed


def form_together(model: nn.Module, modules: Mapping[str, LowRankLinear]) -> FormedFactors:
    """Compute the factors of `modules`, all maps of `model`, together from now on."""
    formed = FormedFactors(list(modules.values()))
    formed.join(model)
    return formed
