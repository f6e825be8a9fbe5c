"""MoRA (Jiang et al., arXiv 2405.12130), types 1 and 6: one square matrix between fixed maps.

    y = W x + b + f_dec(M f_comp(dropout(x))),   M (s, s) trained, M = 0 at the start, no scale

s ("r hat") is the rounded square root of r (d_in + d_out), so that M has as many entries as LoRA of rank r. Let x' be
x, padded with its own first entries to an integer number c of blocks X_i of size s:

    type 1 (sharing, eq. 6):   u = sum_i X_i,   v = M u,   y_o = v[o mod s]
    type 6 (rotation, eq. 9):  v_i = M R_i X_i,   y = v_0, v_1, ... cut, or repeated, to d_out

R_i rotates the pairs (j, j + s/2) of a block by i theta_j, theta_j = 10000^(-2j/s). The rotation is applied to M: the
M R_i are c small matrices, and x only takes part in matrix products.

An update of type 1 has rank <= s, one of type 6 up to min(d_in, d_out). If d_in > d_out, type 6 ignores all but about
the first d_out inputs; `narrowing_type` = 1 uses type 1 for such modules.
Parameters: sum of s^2.

Deviations from paper and released code (docs/deviations.md): D-mora-side, D-mora-narrow, D-mora-tables.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.methods.linear import AdaptedLinear, replace_modules
from adalora.methods.mora.options import MoRAConfig
from adalora.methods.protocol import Method


class MoRALinear(AdaptedLinear):
    """One adapted module: `mora_M` (s, s)."""

    def __init__(self, base: nn.Linear, config: MoRAConfig) -> None:
        super().__init__(base)
        d_out, d_in = base.out_features, base.in_features
        self.rotates = config.type_of(d_out, d_in) == 6
        s = self.side = config.side(d_out, d_in)
        self.dropout = config.dropout
        self.mora_M = self.zeros(s, s)
        # type 6 computes only blocks whose output survives the cut to d_out
        self.blocks = math.ceil(d_in / s)
        if self.rotates:
            self.blocks = min(self.blocks, math.ceil(d_out / s))
            for name, table in zip(("cos", "sin"), rotation(self.blocks, s), strict=True):
                self.register_buffer(name, table.to(self.mora_M), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        return self.base(x) + self.increment(F.dropout(x, self.dropout, self.training))

    def increment(self, z: Tensor) -> Tensor:
        """f_dec(M f_comp(z))."""
        s, c, shape = self.side, self.blocks, z.shape[:-1]
        pad = c * s - self.in_features
        z = torch.cat((z, z[..., :pad]), -1) if pad > 0 else z[..., : c * s]  # X_0, X_1, ...: (..., c s)
        if self.rotates:
            v = z.reshape(-1, c, s).transpose(0, 1) @ self.rotated().mT  # v_i: (c, tokens, s)
            v = v.transpose(0, 1).reshape(*shape, c * s)
        else:
            v = F.linear(z.unflatten(-1, (c, s)).sum(-2), self.mora_M)  # (..., s)
        return torch.cat([v] * math.ceil(self.out_features / v.shape[-1]), -1)[..., : self.out_features]

    def rotated(self) -> Tensor:
        """M R_i of every block: (c, s, s)."""
        M, h = self.mora_M, self.side // 2
        cos, sin = self.get_buffer("cos"), self.get_buffer("sin")  # (c, 1, s)
        return M * cos + torch.cat((M[:, h:], -M[:, :h]), -1) * sin

    def delta_weight(self) -> Tensor:
        """The increments of the unit vectors, as columns: (d_out, d_in)."""
        M = self.mora_M
        return self.increment(torch.eye(self.in_features, dtype=M.dtype, device=M.device)).mT


def rotation(blocks: int, s: int) -> tuple[Tensor, Tensor]:
    """cos and sin of i theta_j in float64, (blocks, 1, s) each; both halves are equal."""
    theta = 10000.0 ** (-torch.arange(0, s, 2, dtype=torch.float64) / s)
    angles = torch.arange(blocks, dtype=torch.float64)[:, None, None] * theta.repeat(2)
    return angles.cos(), angles.sin()


class MoRA(Method[MoRAConfig]):
    """MoRA: a square matrix with LoRA's parameter count at every module."""

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        replace_modules(model, targets, lambda base: MoRALinear(base, self.config))


METHOD = MoRA
