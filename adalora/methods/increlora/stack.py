"""IncreLoRA's modules of one shape as stacks, for their scores and their regulariser."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adalora.methods.tensors import own_dtype
from adalora.processes import average


class Stack:
    """Modules of equal shape, with their factors as stacks (m, R, .), zero-padded to the largest number of slots R.

    `rows` are the modules' indices. G is one tensor (m, d_out, d_in), of which each module has a view.
    """

    def __init__(self, rows: list[int], modules: Sequence[Any]) -> None:
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
        shape = (len(self.modules), *self.modules[0].weight.shape)
        self.G = self.A[0].new_zeros(shape, requires_grad=False) if on else None
        for i, module in enumerate(self.modules):
            module.gradient = None if self.G is None else self.G[i]

    def score(self) -> Tensor:
        """S (m,); resets G."""
        assert self.G is not None
        average(self.G)
        A, B_T = self.factors()
        E = self.padded(torch.cat(self.E)) * self.scale[:, None, None]
        with own_dtype(self.G):
            S = torch.linalg.vector_norm((B_T.mT @ (A * E)).mul_(self.G), 1, (1, 2))
        self.forget()
        return S / math.sqrt(self.modules[0].weight.numel())

    def forget(self) -> None:
        """G is 0 again."""
        if self.G is not None:
            self.G.zero_()
