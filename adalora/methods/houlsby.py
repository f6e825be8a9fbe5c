"""Adapters of Houlsby et al. (ICML 2019, arXiv 1902.00751) as in the released AdaLoRA code.

    h = dropout(dense(x)),   out = LayerNorm(h + up(silu(down(h))) + residual)

Two a layer: after the attention's output map and after the FFN's (bottleneck.py has initial values).
The original also trains the LayerNorms; the released code doesn't (docs/deviations.md: D-bottleneck-norm).
Parameters on DeBERTaV3-base: 24 (1,537 m + 768), so 313,536, 608,640 and 1,198,848 for m = 8, 16, 32;
the paper prints 0.31M, 0.61M and 1.22M (D-adapter-counts).
"""

import torch.nn.functional as F
from torch import Tensor

from adalora.methods.bottleneck import BottleneckBlock, BottleneckMethod


class HoulsbyBlock(BottleneckBlock):
    """The bottleneck between the dense map and the residual."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        h = self.dropout(self.dense(x))
        h = h + self.up(F.silu(self.down(h))).to(h.dtype)
        return self.LayerNorm(h + residual)


class Houlsby(BottleneckMethod):
    """Two bottlenecks a layer."""

    block = HoulsbyBlock


METHOD = Houlsby
