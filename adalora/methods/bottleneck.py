"""A bottleneck inside a transformer block: what the two adapter methods share.

    up(act(down(h))),   down: W_d (m, d), b_d (m),   up: W_u (d, m), b_u (d)

All weights ~ N(0, 0.02^2), biases 0: near the identity, not at it, as the released model-wide rule
leaves them (docs/deviations.md: D-bottleneck-init). The block's own maps and LayerNorms stay frozen
(D-bottleneck-norm). Parameters a bottleneck: 2 m d + m + d.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from adalora.config.methods import BottleneckConfig
from adalora.errors import UserError
from adalora.methods.linear import replace_modules
from adalora.methods.protocol import Count, Method, Shapes

PARTS = ("dense", "dropout", "LayerNorm")  # of DeBERTa's (and BERT's) attention.output and output


class BottleneckBlock(nn.Module):
    """A block LayerNorm(dropout(dense(x)) + residual) with a bottleneck: `down` and `up` beside its own parts.

    Names of the base stay as they are. `residual` is what went into the attention, or into the FFN.
    """

    unmergeable = "has a bottleneck with a non-linearity, which no weight of the base can take in"

    def __init__(self, block: Any, config: BottleneckConfig) -> None:
        super().__init__()
        assert config.width is not None, "the width comes from the budget"
        self.dense, self.dropout, self.LayerNorm = (getattr(block, part) for part in PARTS)
        d = self.dense.out_features
        self.down = fresh_linear(d, config.width, self.dense.weight, config.init_std)
        self.up = fresh_linear(config.width, d, self.dense.weight, config.init_std)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(..., d_in) and (..., d) -> (..., d)."""
        raise NotImplementedError


def fresh_linear(d_in: int, d_out: int, like: Tensor, std: float) -> nn.Linear:
    """A linear map of `like`'s type and device: weight ~ N(0, std^2), bias 0."""
    linear = nn.utils.skip_init(nn.Linear, d_in, d_out, dtype=like.dtype, device=like.device)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear


class BottleneckMethod(Method):
    """A bottleneck of one width in the block of every target: `....output` for `....output.dense`."""

    mergeable = False  # non-linear: see BottleneckBlock.unmergeable
    block: ClassVar[type[BottleneckBlock]]

    def __init__(self, config: BottleneckConfig) -> None:
        self.config: Any = config  # whose open fields the budget fills

    def size(self, shapes: Shapes) -> int | None:
        return self.config.width

    def sized(self, size: int, shapes: Shapes) -> BottleneckConfig:
        return replace(self.config, width=size)

    def count(self, shapes: Shapes) -> Count:
        m = self.config.width
        total = sum(2 * m * d + m + d for d, _ in shapes.values())
        return Count(total, total)

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        blocks = {path: model.get_submodule(path) for path in (target.rpartition(".")[0] for target in targets)}
        for path, block in blocks.items():
            if not all(hasattr(block, part) for part in PARTS):
                raise UserError(
                    f"{path or type(model).__name__} is no block of {', '.join(PARTS)}, which {self.config.name} "
                    "needs: the targets must be the dense maps of such blocks"
                )
        replace_modules(model, blocks, lambda block: self.block(block, self.config))

    def describe(self) -> str:
        return f"width {self.config.width}"
