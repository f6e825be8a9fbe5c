"""Adapters of Houlsby et al. (ICML 2019, arXiv 1902.00751) as in the released AdaLoRA code.

    h = dropout(dense(x)),   out = LayerNorm(h + up(silu(down(h))) + residual)

They follow the output module of every attention and of the FFN: two per encoder layer, three per decoder layer
(methods/bottleneck.py has the initialisation). The original also trains the LayerNorms; the released code doesn't
(docs/deviations.md: D-bottleneck-norm). In BART dropout belongs to the layer and comes after the bottleneck instead of
before it (D-houlsby-bart):

    out = LayerNorm(dropout(h + up(silu(down(h)))) + residual),   h = dense(x)

Parameters on DeBERTaV3-base: 24 (1,537 m + 768), so 313,536, 608,640 and 1,198,848 for m = 8, 16, 32;
the paper prints 0.31M, 0.61M and 1.22M (D-adapter-counts). On BART-large: 60 (2,049 m + 1,024).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from adalora.methods.bottleneck import UNMERGEABLE, BottleneckBlock, BottleneckMethod, bottleneck
from adalora.methods.bottleneck_options import BottleneckConfig


class HoulsbyBlock(BottleneckBlock):
    """The bottleneck between the dense module and the residual."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(..., d_in) and (..., d) -> (..., d)."""
        h = self.dropout(self.dense(x))
        h = h + self.up(F.silu(self.down(h))).to(h.dtype)
        return self.LayerNorm(h + residual)


class HoulsbyLinear(nn.Linear):
    """h + up(silu(down(h))) with h = W x + b, where W (d, d_in) and b (d) are those of the module it replaces."""

    unmergeable = UNMERGEABLE

    def __init__(self, base: nn.Linear, config: BottleneckConfig) -> None:
        nn.Module.__init__(self)  # nn.Linear's __init__ would allocate a weight
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.down, self.up = bottleneck(base.out_features, base.weight, config)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d)."""
        h = F.linear(x, self.weight, self.bias)
        return h + self.up(F.silu(self.down(h))).to(h.dtype)


class Houlsby(BottleneckMethod):
    """A bottleneck after every attention and the FFN."""

    block = HoulsbyBlock
    in_bart = HoulsbyLinear


METHOD = Houlsby
