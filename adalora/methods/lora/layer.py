"""LoRA (Hu et al., arXiv 2106.09685) as in the released AdaLoRA code.

    y = W x + b + (alpha / r) B A dropout(x),   A (r, d_in), B (d_out, r)

B = 0. A is initialised by `init`: normal, N(0, 0.02^2), as in the released DeBERTa model for GLUE; or kaiming,
U(-1 / sqrt(d_in), 1 / sqrt(d_in)), loralib's default, used on SQuAD and BART (docs/deviations.md: D-lora-init). alpha
is the same for all ranks. Parameters: sum over modules of r (d_in + d_out).

With `orthogonality` gamma > 0 (LoRA-regu, arXiv 2303.10512 Table 5) the loss has a term gamma R, as released

    R = mean over the 2n matrices of the mean over i != j of |cos(M_i, M_j)|,   M_i the rows of A, columns of B;

at rank 1 there is no pair, and R = 0 (released: 0 / 0; D-lora-orth).
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.methods.linear import replace_modules
from adalora.methods.lora.options import LoRAConfig
from adalora.methods.low_rank import LowRankLinear, by_shape, stacks
from adalora.methods.options import given
from adalora.methods.protocol import Method
from adalora.methods.tensors import own_dtype


class LoRALinear(LowRankLinear):
    """One adapted module: `lora_A` (r, d_in), `lora_B` (d_out, r)."""

    def __init__(self, base: nn.Linear, config: LoRAConfig) -> None:
        super().__init__(base)
        r = given(config, "rank")
        self.scale, self.dropout = config.alpha / r, config.dropout
        self.lora_A, self.lora_B = self.zeros(r, base.in_features), self.zeros(base.out_features, r)
        if config.init == "kaiming":
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        else:
            nn.init.normal_(self.lora_A, std=config.init_std)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        z = F.dropout(x, self.dropout, self.training)
        return self.base(x) + self.scale * (z @ self.lora_A.mT) @ self.lora_B.mT


class LoRA(Method[LoRAConfig]):
    """LoRA with the same rank at every module."""

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        self.modules = replace_modules(model, targets, lambda base: LoRALinear(base, self.config))
        self.by_shape = by_shape(list(self.modules.values()))

    def regulariser(self) -> Tensor:
        """gamma R."""
        if self.config.orthogonality == 0 or self.config.rank == 1:
            return torch.zeros(())
        cosines = [mean_cosine(rows) for A, B in self.factors() for rows in (A, B.mT)]
        return self.config.orthogonality * torch.cat(cosines).mean()

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """All A and B, stacked by shape."""
        return stacks(self.by_shape)

    def ranks(self) -> dict[str, int]:
        return {name: module.lora_A.shape[0] for name, module in self.modules.items()}


def mean_cosine(rows: Tensor) -> Tensor:
    """Mean over i != j of |cos(M_i, M_j)| of each M (r, d) in a stack (m, r, d): (m,). A row of zeros has cosine 0."""
    r = rows.shape[1]
    unit = F.normalize(rows, dim=-1)
    with own_dtype(unit):
        cosines = (unit @ unit.mT).abs()
    return (cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)) / (r * r - r)


METHOD = LoRA
