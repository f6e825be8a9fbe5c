"""A linear map with an increment that grows, and stacks of them.

    y = W x + b + alpha / (r + 1e-5) B diag(E) A dropout(x),   A (slots, d_in), E (slots, 1), B (d_out, slots)

of which the first r slots are active. The products are low-rank; G = dL/d(dW), which the module score needs, is
accumulated separately (docs/deviations.md: D-incre-dense).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.distributed import average
from adalora.methods.increlora.options import IncreLoRAConfig
from adalora.methods.low_rank import LowRankLinear
from adalora.tensors import own_dtype


class GrowingLinear(LowRankLinear):
    """An adapted map: `rank` active slots, followed by the reserve's.

    Each factor is a list of chunks along the slots, one per growth, because AdamW has one step count and learning rate
    per tensor and each growth needs its own. `lora_A` (g, d_in) and `lora_B` (d_out, g) cover all slots, `lora_E` (g,
    1) the active ones; `silent` (reserve, 1) is the constant E of the reserve. `gradient` (d_out, d_in), if set,
    accumulates G.
    """

    def __init__(self, base: nn.Linear, config: IncreLoRAConfig) -> None:
        super().__init__(base)
        self.alpha, self.dropout = config.alpha, config.dropout
        self.gradient: Tensor | None = None
        self.build([config.init_rank], [config.init_rank])
        nn.init.normal_(self.lora_A[0], std=config.init_std)
        nn.init.normal_(self.lora_B[0], std=config.init_std)

    def build(self, active: list[int], slots: list[int]) -> None:
        """Allocate zero chunks of these sizes for E, and for A and B."""
        new: dict[str, Any] = {"dtype": self.weight.dtype, "device": self.weight.device}
        self.rank = sum(active)
        self.lora_A = nn.ParameterList(torch.zeros(g, self.in_features, **new) for g in slots)
        self.lora_E = nn.ParameterList(torch.zeros(g, 1, **new) for g in active)
        self.lora_B = nn.ParameterList(torch.zeros(self.out_features, g, **new) for g in slots)
        self.silent = torch.zeros(sum(slots) - self.rank, 1, **new)

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank + 1e-5)

    def slots(self) -> tuple[Tensor, Tensor, Tensor]:
        """A (slots, d_in), E (slots, 1), B (d_out, slots)."""
        return torch.cat(tuple(self.lora_A)), torch.cat((*self.lora_E, self.silent)), torch.cat(tuple(self.lora_B), 1)

    def factors(self) -> tuple[Tensor, Tensor]:
        """A (slots, d_in), which includes E and the scale, and B (d_out, slots). The reserve is included, so that a
        model merged for evaluation computes the same as in training (D-incre-reserve)."""
        A, E, B = self.slots()  # noqa: N806
        return A * (E * self.scale), B

    def product(self, x: Tensor, dropped: Tensor | None) -> Tensor:
        y = super().product(x, dropped)
        if self.gradient is not None and y.requires_grad:
            seen = (x if dropped is None else dropped).detach()
            y.register_hook(lambda gradient: self.gather(gradient, seen))
        return y

    def gather(self, gradient: Tensor, x: Tensor) -> None:
        """G += sum over tokens of dL/dy x^T, of y (..., d_out) and x (..., d_in).

        Computed in the gradient's precision, but in fp32 for fp16: the loss scaler brings the trained gradients close
        to overflow, and G is larger than they are.
        """
        assert self.gradient is not None
        dtype = torch.float32 if gradient.dtype == torch.float16 else gradient.dtype
        with own_dtype(x):
            self.gradient += gradient.to(dtype).flatten(0, -2).mT @ x.to(dtype).flatten(0, -2)

    def low_rank_factors(self) -> tuple[Tensor, Tensor]:
        A, E, B = self.slots()  # noqa: N806
        active = E.squeeze(-1) != 0
        return A[active], self.scale * B[:, active] * E[active].mT


class Stack:
    """Modules of equal shape, with their factors as stacks (m, R, .), zero-padded to the largest number of slots R.

    `rows` are the modules' indices. G is one tensor (m, d_out, d_in), of which each module has a view.
    """

    def __init__(self, rows: list[int], modules: list[GrowingLinear]) -> None:
        self.rows, self.modules = rows, modules
        self.G: Tensor | None = None
        self.reindex()

    def reindex(self) -> None:
        """Collect the modules' chunks again after a growth."""
        modules, device = self.modules, self.modules[0].weight.device
        self.A = [chunk for module in modules for chunk in module.lora_A]
        self.E = [chunk for module in modules for chunk in (*module.lora_E, module.silent)]
        self.B = [chunk for module in modules for chunk in module.lora_B]
        slots = torch.tensor([module.rank + len(module.silent) for module in modules])
        place = torch.arange(int(slots.max()))
        used = place < slots[:, None]
        index = (slots.cumsum(0) - slots)[:, None] + place
        self.index = index.where(used, slots.sum()).to(device)  # the row after the last one is 0
        self.eye = torch.diag_embed(used.to(self.A[0].dtype)).to(device)
        self.scale = torch.tensor([module.scale for module in modules], dtype=self.A[0].dtype, device=device)

    def padded(self, rows: Tensor) -> Tensor:
        """(all slots, d) -> (m, R, d)."""
        return F.pad(rows, (0, 0, 0, 1))[self.index]

    def factors(self) -> tuple[Tensor, Tensor]:
        """A (m, R, d_in) and B^T (m, R, d_out)."""
        return self.padded(torch.cat(self.A)), self.padded(torch.cat(self.B, 1).mT)

    def orthogonality(self) -> Tensor:
        """|| A A^T - I ||_F and || B^T B - I ||_F of every module: (2 m,)."""
        with own_dtype(self.eye):
            return torch.cat([torch.linalg.matrix_norm(M @ M.mT - self.eye) for M in self.factors()])

    def watch(self, on: bool) -> None:
        """Start or stop accumulating G."""
        some = self.modules[0]
        self.G = some.weight.new_zeros(len(self.modules), *some.weight.shape) if on else None
        for i, module in enumerate(self.modules):
            module.gradient = None if self.G is None else self.G[i]

    def score(self) -> Tensor:
        """S (m,); resets G."""
        assert self.G is not None
        average(self.G)
        A, B_T = self.factors()  # noqa: N806
        E = self.padded(torch.cat(self.E)) * self.scale[:, None, None]  # noqa: N806
        with own_dtype(self.G):
            S = torch.linalg.vector_norm((B_T.mT @ (A * E)).mul_(self.G), 1, (1, 2))  # noqa: N806
        self.forget()
        return S / math.sqrt(self.modules[0].weight.numel())

    def forget(self) -> None:
        """G is 0 again."""
        if self.G is not None:
            self.G.zero_()
