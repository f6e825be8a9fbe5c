"""The bottleneck inside a transformer layer, shared by the two adapter methods.

    up(act(down(h))),   down: W_d (m, d), b_d (m),   up: W_u (d, m), b_u (d)

All weights ~ N(0, 0.02^2), biases 0: close to the identity but not equal to it, as the released model-wide
initialisation leaves them (docs/deviations.md: D-bottleneck-init). The block's own modules and LayerNorms stay frozen
(D-bottleneck-norm). Parameters per bottleneck: 2 m d + m + d. docs/placement.md shows every position.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers.models.bart.modeling_bart import BartDecoderLayer, BartEncoderLayer

from adalora.errors import UserError
from adalora.methods.bottleneck_options import ATTENTION, FFN, BottleneckConfig
from adalora.methods.linear import replace_modules
from adalora.methods.options import given
from adalora.methods.protocol import Method

PARTS = ("dense", "dropout", "LayerNorm")  # of DeBERTa's (and BERT's) attention.output and output
UNMERGEABLE = (
    "has a bottleneck with a non-linearity, which no weight of the base can take in: keep the adapter beside the base"
)


class BottleneckBlock(nn.Module):
    """A block LayerNorm(dropout(dense(x)) + residual) with a bottleneck of `down` and `up`.

    The base keeps its parameter names. `residual` is the input of the attention or FFN.
    """

    unmergeable = UNMERGEABLE

    def __init__(self, block: Any, config: BottleneckConfig) -> None:
        super().__init__()
        self.dense, self.dropout, self.LayerNorm = (getattr(block, part) for part in PARTS)
        self.down, self.up = bottleneck(self.dense.out_features, self.dense.weight, config)


def bottleneck(d: int, like: Tensor, config: BottleneckConfig) -> tuple[nn.Linear, nn.Linear]:
    """Create `down` and `up` of width d, with `like`'s dtype and device."""
    width = given(config, "width")
    return fresh_linear(d, width, like, config.init_std), fresh_linear(width, d, like, config.init_std)


def fresh_linear(d_in: int, d_out: int, like: Tensor, std: float) -> nn.Linear:
    """Create a linear layer with `like`'s dtype and device, weight ~ N(0, std^2) and bias 0."""
    linear = nn.utils.skip_init(nn.Linear, d_in, d_out, dtype=like.dtype, device=like.device)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear


class BottleneckMethod(Method[BottleneckConfig]):
    """A bottleneck of the same width after every target."""

    block: ClassVar[type[BottleneckBlock]]  # in DeBERTa: replaces `....output` for the target `....output.dense`
    in_bart: ClassVar[type[nn.Module]]  # in BART: replaces the module ...
    at_norm: ClassVar[bool] = False  # ... or the LayerNorm after it

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        for path, kind in [self.place(model, target) for target in targets]:
            replace_modules(model, {path: model.get_submodule(path)}, partial(kind, config=self.config))

    def place(self, model: nn.Module, target: str) -> tuple[str, type[nn.Module]]:
        """The path of the module to replace, and the class of its replacement.

        Raises:
            UserError: the module isn't followed by a known residual and LayerNorm.
        """
        parent = target.rpartition(".")[0]
        if all(hasattr(model.get_submodule(parent), part) for part in PARTS):
            return parent, self.block
        for site in (*ATTENTION, *FFN):
            layer = target.removesuffix(f".{site}")
            if layer != target and isinstance(model.get_submodule(layer), BartEncoderLayer | BartDecoderLayer):
                return (f"{layer}.{norm_after(site)}" if self.at_norm else target), self.in_bart
        raise UserError(
            f"{self.config.name} can't be placed at {target}: the targets must be `dense` of blocks of "
            f"{', '.join(PARTS)}, or the output layers of BART"
        )


def norm_after(site: str) -> str:
    """The LayerNorm of a BART layer that is applied to the residual plus a module's output."""
    return "final_layer_norm" if site in FFN else site.replace(".out_proj", "_layer_norm")
