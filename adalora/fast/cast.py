"""Frozen weights cast once. Autocast casts them on every use."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.methods.linear import AdaptedLinear
from adalora.methods.melora.layer import MELoRALinear
from adalora.methods.mora.layer import MoRALinear
from adalora.tensors import compute_type


class CastOnce(AdaptedLinear):
    """Replaces the casts of W, b and x in a map: W and b are cast once while they are frozen, x once per use."""

    copies: Any = None  # what W and b were, the tensors themselves, and their copies

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(compute_type(x)))

    def base(self, x: Tensor) -> Tensor:
        return F.linear(x, *self.cast(x.dtype))

    def cast(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """W and b as `dtype`."""
        W, b = self.weight, self.bias  # noqa: N806
        tensors = [W] if b is None else [W, b]
        if W.dtype == dtype or any(t.requires_grad for t in tensors):
            return W.to(dtype), None if b is None else b.to(dtype)
        now = [dtype, *((t.data_ptr(), t._version) for t in tensors)]
        if self.copies is None or self.copies[0] != now:
            with torch.inference_mode(False), torch.no_grad():
                kept = [t.detach() for t in tensors]  # as long as they live, no other tensor has their addresses
                self.copies = now, kept, (W.to(dtype), None if b is None else b.to(dtype))
        return self.copies[2]


class FastMELoRALinear(CastOnce, MELoRALinear):
    """MELoRA's map."""


class FastMoRALinear(CastOnce, MoRALinear):
    """MoRA's map."""


SWAPS: dict[type[nn.Module], type[nn.Module]] = {MELoRALinear: FastMELoRALinear, MoRALinear: FastMoRALinear}
