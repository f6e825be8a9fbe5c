"""MELoRA (Ren et al., arXiv 2402.17263): parallel mini LoRAs, each on a slice of the features.

    y = W x + b + (alpha / r) [B_1 A_1 x_1; ...; B_n A_n x_n],   A_i (r, d_in / n), B_i (d_out / n, r)

where x_i is the i-th of n equal slices of dropout(x). The update is block diagonal, with rank up to n r.
A ~ U(-b, b) with b = sqrt(n / d_in), Kaiming's with the fan-in of a slice; B = 0 (released code).
Parameters: sum of r (d_in + d_out) for any n; the published savings are relative to LoRA of rank n r.

Deviations from the released code (docs/deviations.md): D-melora-lists, D-melora-modules.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.methods.linear import AdaptedLinear, replace_modules
from adalora.methods.melora.options import MELoRAConfig
from adalora.methods.options import given
from adalora.methods.protocol import Method


class MELoRALinear(AdaptedLinear):
    """One adapted module: `lora_A` (n, r, d_in / n), `lora_B` (n, d_out / n, r).

    Raises:
        UserError: n doesn't divide both sides.
    """

    def __init__(self, base: nn.Linear, config: MELoRAConfig) -> None:
        super().__init__(base)
        n, r, d_out, d_in = config.minis, given(config, "rank"), base.out_features, base.in_features
        config.check_divides(d_out, d_in)
        self.scale, self.dropout = config.alpha / r, config.dropout
        self.lora_A, self.lora_B = self.zeros(n, r, d_in // n), self.zeros(n, d_out // n, r)
        bound = (n / d_in) ** 0.5
        nn.init.uniform_(self.lora_A, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        y, z = self.base(x), F.dropout(x, self.dropout, self.training)
        slices = z.reshape(-1, *self.lora_A.shape[::2]).transpose(0, 1)  # (n, tokens, d_in / n)
        increments = slices @ (self.lora_A * self.scale).mT @ self.lora_B.mT  # (n, tokens, d_out / n)
        return y + increments.transpose(0, 1).reshape(*x.shape[:-1], self.out_features)

    def delta_weight(self) -> Tensor:
        return torch.block_diag(*(self.scale * self.lora_B @ self.lora_A))

    def low_rank_factors(self) -> tuple[Tensor, Tensor]:
        """Block diagonal, of rank n r."""
        return torch.block_diag(*self.lora_A), torch.block_diag(*(self.scale * self.lora_B))


class MELoRA(Method[MELoRAConfig]):
    """MELoRA: n mini LoRAs of equal rank at every module."""

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        self.modules = replace_modules(model, targets, lambda base: MELoRALinear(base, self.config))

    def ranks(self) -> dict[str, int]:
        """The rank of the whole update: n r."""
        return {name: module.lora_A.shape[0] * module.lora_A.shape[1] for name, module in self.modules.items()}


METHOD = MELoRA
