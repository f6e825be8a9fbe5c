"""What methods of low rank share: merging, export, and their parameters as stacks."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from adalora.methods.linear import AdaptedLinear
from adalora.methods.tensors import own_dtype


class LowRankLinear(AdaptedLinear):
    """A module whose increment is s B diag(d) A dropout(x): A (r, d_in), d (r), B (d_out, r) from `slots`, s = `scale`.

    A method's `forward` states it in full. Merging, export and adalora/fast use what is here.
    """

    lora_A: Any
    lora_B: Any
    scale: Any
    dropout: float

    def observed(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """y. A method may look at it, at the module's input x, and at z, the increment's."""
        return y

    def slots(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """A, d (of any shape) and B; d is None for ones."""
        return self.lora_A, None, self.lora_B

    def factors(self) -> tuple[Tensor, Tensor]:
        """s diag(d) A (r, d_in), and B (d_out, r)."""
        A, d, B = self.slots()
        return A * (self.scale if d is None else d.reshape(-1, 1) * self.scale), B

    def delta_weight(self) -> Tensor:
        A, B = self.factors()
        return B @ A

    def low_rank_factors(self) -> tuple[Tensor, Tensor]:
        """A and s B diag(d), without slots that contribute nothing."""
        A, d, B = self.slots()
        B = self.scale * B if d is None else self.scale * B * d.reshape(1, -1)
        used = (A != 0).any(1) & (B != 0).any(0)
        return A[used], B[:, used]


def alike(shapes: Iterable[Any]) -> list[list[int]]:
    """The indices of equal shapes, one list for each."""
    groups: dict[Any, list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(index)
    return list(groups.values())


def by_shape(modules: Sequence[Any]) -> list[list[Any]]:
    """Modules with `lora_A` and `lora_B` of equal shapes, a list for each."""
    groups = alike((module.lora_A.shape, module.lora_B.shape) for module in modules)
    return [[modules[i] for i in group] for group in groups]


def stacks(groups: Iterable[Sequence[Any]]) -> list[tuple[Tensor, Tensor]]:
    """`lora_A` (m, r, d_in) and `lora_B` (m, d_out, r) of each group of modules, stacked."""
    return [(torch.stack([m.lora_A for m in group]), torch.stack([m.lora_B for m in group])) for group in groups]


def gram_distance(M: Tensor, columns: bool = False) -> Tensor:
    """|| M M^T - I ||_F of each M in a stack (m, r, d), or with `columns` || M^T M - I ||_F: (m,)."""
    with own_dtype(M):
        gram = M.mT @ M if columns else M @ M.mT
        return torch.linalg.matrix_norm(gram - torch.eye(gram.shape[-1], dtype=M.dtype, device=M.device))
