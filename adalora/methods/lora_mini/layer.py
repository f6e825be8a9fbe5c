"""LoRA-Mini (Singh et al., arXiv 2411.15804): LoRA's factors are each split in two, and the inner ones are trained.

    y = W x + b + (alpha / r) B A dropout(x),   A = A_in A_out,   B = B_out B_in

with A_out (a, d_in) and B_out (d_out, b) frozen, and A_in (r, a) and B_in (b, r) trained. The update stays in fixed
random subspaces of dimensions a and b. A and B, which have LoRA's shapes, are computed first, so that x costs as much
as in LoRA of rank r.

A_out has orthonormal rows and B_out orthonormal columns (`outer` = "gaussian": N(0, 1/d_in) and
N(0, 1/d_out)), drawn in fp32 on the CPU from the run's seed; A_in is Kaiming uniform, +- 1/sqrt(a);
B_in = 0. The frozen factors are saved with the adapter and in checkpoints, which makes both larger.
Parameters: sum of r (a + b). The frozen a d_in + b d_out entries per module aren't counted in a budget.

Neither the code nor the paper's full text was available: D-mini-outer, D-mini-sizes (docs/deviations.md).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.methods.linear import replace_modules
from adalora.methods.lora_mini.options import LoRAMiniConfig
from adalora.methods.low_rank import LowRankLinear
from adalora.methods.options import given
from adalora.methods.protocol import Method


class LoRAMiniLinear(LowRankLinear):
    """One adapted module: `lora_A_inner` (r, a), `lora_B_inner` (b, r); frozen `lora_A_outer` (a, d_in),
    `lora_B_outer` (d_out, b)."""

    frozen = ("lora_A_outer", "lora_B_outer")

    def __init__(self, base: nn.Linear, config: LoRAMiniConfig) -> None:
        super().__init__(base)
        r, a, b = (given(config, name) for name in ("rank", "inner_in", "inner_out"))
        config.check_fits(base.out_features, base.in_features)
        self.scale, self.dropout = config.alpha / r, config.dropout
        self.lora_A_inner, self.lora_B_inner = self.zeros(r, a), self.zeros(b, r)
        like = self.lora_A_inner
        self.lora_A_outer = frozen(outer(a, base.in_features, config.outer).to(like))
        self.lora_B_outer = frozen(outer(b, base.out_features, config.outer).mT.contiguous().to(like))
        nn.init.uniform_(self.lora_A_inner, -(a**-0.5), a**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        A, _, B = self.slots()
        z = F.dropout(x, self.dropout, self.training)
        return self.base(x) + self.scale * (z @ A.mT) @ B.mT

    def slots(self) -> tuple[Tensor, None, Tensor]:
        """A = A_in A_out (r, d_in) and B = B_out B_in (d_out, r)."""
        return self.lora_A_inner @ self.lora_A_outer, None, self.lora_B_outer @ self.lora_B_inner


def outer(m: int, d: int, kind: str) -> Tensor:
    """(m, d) in fp32: random orthonormal rows, or entries ~ N(0, 1/d)."""
    rows = torch.empty(m, d)
    return nn.init.orthogonal_(rows) if kind == "orthonormal" else nn.init.normal_(rows, std=d**-0.5)


def frozen(tensor: Tensor) -> nn.Parameter:
    """A parameter that isn't trained."""
    return nn.Parameter(tensor, requires_grad=False)


class LoRAMini(Method[LoRAMiniConfig]):
    """LoRA-Mini, with the same inner sizes at every module."""

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        self.modules = replace_modules(model, targets, lambda base: LoRAMiniLinear(base, self.config))

    def ranks(self) -> dict[str, int]:
        return {name: module.lora_A_inner.shape[0] for name, module in self.modules.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The frozen factors: drawn again, they would differ in the last bits with other threads."""
        return {
            f"{name}.{path}": getattr(module, name).detach()
            for path, module in self.modules.items()
            for name in LoRAMiniLinear.frozen
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for path, module in self.modules.items():
            for name in LoRAMiniLinear.frozen:
                getattr(module, name).detach().copy_(state[f"{name}.{path}"])


METHOD = LoRAMini
