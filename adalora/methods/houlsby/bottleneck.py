"""A bottleneck inside a transformer layer: what the two adapter methods share.

    up(act(down(h))),   down: W_d (m, d), b_d (m),   up: W_u (d, m), b_u (d)

All weights ~ N(0, 0.02^2), biases 0: near the identity, not at it, as the released model-wide rule
leaves them (docs/deviations.md: D-bottleneck-init). The block's own maps and LayerNorms stay frozen
(D-bottleneck-norm). Parameters a bottleneck: 2 m d + m + d. docs/placement.md has every place.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers.models.bart.modeling_bart import BartDecoderLayer, BartEncoderLayer

from adalora.errors import UserError
from adalora.methods.houlsby.options import ATTENTION, FFN, BottleneckConfig
from adalora.methods.linear import replace_modules
from adalora.methods.options import given
from adalora.methods.protocol import Method

PARTS = ("dense", "dropout", "LayerNorm")  # of DeBERTa's (and BERT's) attention.output and output
UNMERGEABLE = (
    "has a bottleneck with a non-linearity, which no weight of the base can take in: keep the adapter beside the base"
)


class BottleneckBlock(nn.Module):
    """A block LayerNorm(dropout(dense(x)) + residual) with a bottleneck: `down` and `up` beside its own parts.

    Names of the base stay as they are. `residual` is what went into the attention, or into the FFN.
    """

    unmergeable = UNMERGEABLE

    def __init__(self, block: Any, config: BottleneckConfig) -> None:
        super().__init__()
        self.dense, self.dropout, self.LayerNorm = (getattr(block, part) for part in PARTS)
        self.down, self.up = bottleneck(self.dense.out_features, self.dense.weight, config)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(..., d_in) and (..., d) -> (..., d)."""
        raise NotImplementedError


def bottleneck(d: int, like: Tensor, config: BottleneckConfig) -> tuple[nn.Linear, nn.Linear]:
    """Fresh `down` and `up` over width d, of `like`'s type and device."""
    width = given(config, "width")
    return fresh_linear(d, width, like, config.init_std), fresh_linear(width, d, like, config.init_std)


def fresh_linear(d_in: int, d_out: int, like: Tensor, std: float) -> nn.Linear:
    """A linear map of `like`'s type and device: weight ~ N(0, std^2), bias 0."""
    linear = nn.utils.skip_init(nn.Linear, d_in, d_out, dtype=like.dtype, device=like.device)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear


class BottleneckMethod(Method):
    """A bottleneck of one width after every target."""

    increments = False  # non-linear: see UNMERGEABLE
    block: ClassVar[type[BottleneckBlock]]  # in DeBERTa: takes the place of `....output` for `....output.dense`
    in_bart: ClassVar[type[nn.Module]]  # takes the place of the map ...
    at_norm: ClassVar[bool] = False  # ... or of the LayerNorm after it

    def __init__(self, config: BottleneckConfig) -> None:
        self.config: Any = config

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        for path, kind in [self.place(model, target) for target in targets]:
            replace_modules(model, {path: model.get_submodule(path)}, partial(kind, config=self.config))

    def place(self, model: nn.Module, target: str) -> tuple[str, type[nn.Module]]:
        """The path of the module that gives way to one with a bottleneck, and the kind of the latter.

        Raises:
            UserError: no residual and LayerNorm that we know of follow the map.
        """
        parent = target.rpartition(".")[0]
        if all(hasattr(model.get_submodule(parent), part) for part in PARTS):
            return parent, self.block
        for site in (*ATTENTION, *FFN):
            layer = target.removesuffix(f".{site}")
            if layer != target and isinstance(model.get_submodule(layer), BartEncoderLayer | BartDecoderLayer):
                return (f"{layer}.{norm_after(site)}" if self.at_norm else target), self.in_bart
        raise UserError(
            f"{self.config.name} has no place at {target}: the targets must be the dense maps of blocks of "
            f"{', '.join(PARTS)}, or the output maps of layers of BART"
        )


def norm_after(site: str) -> str:
    """The LayerNorm in a layer of BART over a map's output (dropout between) and the residual."""
    return "final_layer_norm" if site in FFN else site.replace(".out_proj", "_layer_norm")
