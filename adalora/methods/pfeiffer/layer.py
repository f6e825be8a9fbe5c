"""Adapters of Pfeiffer et al. (EACL 2021, arXiv 2005.00247) as in the released AdaLoRA code.

    h = dropout(dense(x)),   n = LayerNorm(h + residual)
    out = LayerNorm(h + up(relu(down(n))) + residual)

One per layer, after the FFN's output. Both LayerNorms are the same frozen module, and the inner skip starts at h, not
at n (docs/deviations.md: D-pfeiffer-norm). methods/bottleneck.py has the initialisation. With s = h + residual, the
input of BART's LayerNorm, this is a function of s alone:

    out = LayerNorm(s + up(relu(down(LayerNorm(s)))))

Parameters on DeBERTaV3-base: 12 (1,537 m + 768), so 304,320, 599,424 and 1,189,632 for m = 16, 32, 64;
the paper prints 0.30M, 0.60M and 1.18M (D-adapter-counts). On BART-large: 24 (2,049 m + 1,024).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from adalora.methods.bottleneck import UNMERGEABLE, BottleneckBlock, BottleneckMethod, bottleneck
from adalora.methods.bottleneck_options import BottleneckConfig


class PfeifferBlock(BottleneckBlock):
    """The bottleneck takes the normalised sum as input, and its output is added before the LayerNorm."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(..., d_in) and (..., d) -> (..., d)."""
        h = self.dropout(self.dense(x))
        normed = self.LayerNorm(h + residual)
        h = h + self.up(F.relu(self.down(normed))).to(h.dtype)
        return self.LayerNorm(h + residual)


class PfeifferNorm(nn.LayerNorm):
    """The same as a replacement of the LayerNorm, whose weight (d) and bias (d) keep their names."""

    unmergeable = UNMERGEABLE

    def __init__(self, base: nn.LayerNorm, config: BottleneckConfig) -> None:
        super().__init__(base.normalized_shape, base.eps, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.down, self.up = bottleneck(base.normalized_shape[0], base.weight, config)

    def forward(self, s: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        normed = super().forward(s)
        return super().forward(s + self.up(F.relu(self.down(normed))).to(s.dtype))


class Pfeiffer(BottleneckMethod):
    """A bottleneck after the FFN."""

    block = PfeifferBlock
    in_bart = PfeifferNorm
    at_norm = True


METHOD = Pfeiffer
