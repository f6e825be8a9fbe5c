"""Adapters of Pfeiffer et al. (EACL 2021, arXiv 2005.00247) as in the released AdaLoRA code.

    h = dropout(dense(x)),   n = LayerNorm(h + residual)
    out = LayerNorm(h + up(relu(down(n))) + residual)

One a layer, after the FFN's output map. Both LayerNorms are the same frozen module, and the inner
skip starts at h, not at n (docs/deviations.md: D-pfeiffer-norm); bottleneck.py has initial values.
Parameters on DeBERTaV3-base: 12 (1,537 m + 768), so 304,320, 599,424 and 1,189,632 for m = 16, 32, 64;
the paper prints 0.30M, 0.60M and 1.18M (D-adapter-counts).
"""

import torch.nn.functional as F
from torch import Tensor

from adalora.methods.bottleneck import BottleneckBlock, BottleneckMethod


class PfeifferBlock(BottleneckBlock):
    """The bottleneck sees the normalised sum, and adds to what goes into it."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        h = self.dropout(self.dense(x))
        normed = self.LayerNorm(h + residual)
        h = h + self.up(F.relu(self.down(normed))).to(h.dtype)
        return self.LayerNorm(h + residual)


class Pfeiffer(BottleneckMethod):
    """One bottleneck a layer."""

    block = PfeifferBlock


METHOD = Pfeiffer
