"""LoRTA (Hounie et al., arXiv 2410.04060): the updates of the whole model as one tensor in CP form.

    y = W x + b + delta_lm dropout(x)
    delta_lm = s [G_lm1 ... G_lmH],   G_lmh = A diag(C_h[h] * C_l[l] * C_m[m]) B   (d, d_h = d / H)

for layer l, matrix m (query, key, value, output projection) and head h, with one set of factors for
the whole model: A (d, r), B (r, d_h), C_h (H, r), C_l (L, r), C_m (M, r). s = alpha / r, or
alpha / sqrt(r) if `rank_stabilised`. Heads lie along the input side of every matrix as in the released
code, or along the output side of q, k, v (`head_side`: D-lorta-heads).

All heads together are one matrix K (r, d) with K[:, h] = diag(C_h[h]) B that every layer shares:

    delta_lm = s A diag(c_lm) K,   c_lm = C_l[l] * C_m[m]

so a module can cost as much as one of LoRA of rank r (adalora/fast/linear.py).

A ~ U(+- 1/sqrt(r)), B = 0, C ~ U(+- sqrt(6 / ((1 + 5 s0^2) r))) with s0 = `init_scale` (released code).
Matrices are numbered in the order of the backbone's modules, M per layer, so each attention block of BART counts as a
layer. Modules that aren't d x d, which the authors skip, are split into d x d slices, one matrix each (D-lorta-slices).
Parameters: r (d + d_h + H + L + M).
"""

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.methods.linear import AdaptedLinear, Undo, replace_modules
from adalora.methods.lorta.options import Grid, LoRTAConfig
from adalora.methods.options import given
from adalora.methods.protocol import Method
from adalora.methods.tensors import trained_dtype


class Factors(nn.Module):
    """The factors of all modules: `A` (d, r), `B` (r, d_h), `C_h` (H, r), `C_l` (L, r), `C_m` (M, r)."""

    def __init__(self, grid: Grid, config: LoRTAConfig, like: Tensor) -> None:
        super().__init__()
        r, heads, dtype = given(config, "rank"), given(config, "heads"), trained_dtype(like)
        self.scale = config.alpha / (r**0.5 if config.rank_stabilised else r)

        def uniform(rows: int, bound: float) -> nn.Parameter:
            return nn.Parameter(nn.init.uniform_(like.new_empty(rows, r, dtype=dtype), -bound, bound))

        bound = (6 / ((1 + 5 * config.init_scale**2) * r)) ** 0.5
        self.A = uniform(grid.d, r**-0.5)
        self.B = nn.Parameter(like.new_zeros(r, grid.d // heads, dtype=dtype))
        self.C_h, self.C_l, self.C_m = (uniform(rows, bound) for rows in (heads, grid.layers, grid.matrices))

    def products(self) -> tuple[Tensor, Tensor]:
        """K (r, d) and s c_lm of all slices (L M, r)."""
        K = (self.C_h.T[:, :, None] * self.B[:, None, :]).flatten(1)
        return K, (self.C_l[:, None] * self.C_m * self.scale).flatten(0, 1)


class LoRTALinear(AdaptedLinear):
    """An adapted module of p x q slices, the first of which is number `first`. `shared` holds the model's factors, in a
    tuple so that they don't become a submodule."""

    def __init__(self, base: nn.Linear, factors: Factors, first: int, undo: Undo, config: LoRTAConfig) -> None:
        super().__init__(base)
        self.undo = undo
        d, M = len(factors.A), len(factors.C_m)
        self.shared = (factors,)
        self.grid = (base.out_features // d, base.in_features // d)
        self.first, self.dropout = first, config.dropout
        self.heads_out = config.head_side == "output_for_qkv" and first % M < 3

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        return self.base(x) + F.dropout(x, self.dropout, self.training) @ self.delta_weight().mT

    def delta_weight(self) -> Tensor:
        """s A diag(c_lm) K of every slice: (p d, q d)."""
        return dense(*self.factors())

    def factors(self) -> tuple[Tensor, Tensor]:
        """Left (p d, q r) and right (r, d): s A diag(c_lm) and K, so that a slice is left @ right; with heads along the
        output, the factors of its transpose."""
        (p, q), (K, c) = self.grid, self.products()
        c = c[self.first : self.first + p * q].unflatten(0, (p, q))
        left = (self.shared[0].A[:, None] * c[:, None]).flatten(2).flatten(0, 1)  # (p, d, q, r) -> (p d, q r)
        return (K.T, left.T) if self.heads_out else (left, K)

    def products(self) -> tuple[Tensor, Tensor]:
        """K and s c_lm of the model."""
        return self.shared[0].products()

    def low_rank_factors(self) -> tuple[Tensor, Tensor]:
        """Of rank q r: slices in the same row share the right factor."""
        left, right = self.factors()
        return torch.block_diag(*[right] * (left.shape[1] // len(right))), left


def dense(left: Tensor, right: Tensor) -> Tensor:
    """(p d, q r) and (r, d) -> (p d, q d)."""
    return (left.unflatten(-1, (-1, len(right))) @ right).flatten(1)


class LoRTA(Method[LoRTAConfig]):
    """LoRTA: one CP tensor for all modules."""

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        grid = self.config.grid({path: (base.out_features, base.in_features) for path, base in targets.items()})
        chosen = {path: targets[path] for path in grid.first}
        factors = Factors(grid, self.config, next(iter(chosen.values())).weight)
        model.add_module("lorta", factors)
        starts, undo = iter(grid.first.values()), (partial(delattr, model, "lorta"),)
        build = partial(LoRTALinear, factors=factors, undo=undo, config=self.config)
        self.modules = replace_modules(model, chosen, lambda base: build(base, first=next(starts)))


METHOD = LoRTA
