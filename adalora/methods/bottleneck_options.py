"""Options shared by the two adapter methods."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.methods.options import Count, PlacedConfig, Shapes
from adalora.options import at_least, option, positive, require

ATTENTION = ("attention.output.dense", "self_attn.out_proj", "encoder_attn.out_proj")
FFN = ("output.dense", "fc2")
"""Path endings of output modules that are followed by residual and LayerNorm, in DeBERTa and BART."""


@dataclass
class BottleneckConfig(PlacedConfig):
    """A bottleneck after each of `modules`; None: the positions of the method's paper."""

    after_attention: ClassVar[bool] = True  # by default, besides the FFN

    width: int | None = option(None, at_least(1), help="m, width of the bottleneck; null: from the budget")
    init_std: float = option(
        0.02, positive, help="standard deviation of both weights, biases 0: the model-wide rule of the released code"
    )

    def module_names(self, targets: Mapping[str, str]) -> list[str]:
        allowed = [name for name, path in targets.items() if path.endswith(ATTENTION + FFN)]
        require(
            bool(allowed),
            f"method={self.name}: none of these modules is followed by a residual and LayerNorm: {', '.join(targets)}",
        )
        for name in self.modules or []:
            require(
                name in allowed,
                f"method.modules: {name} has no residual and LayerNorm after it, allowed are {', '.join(allowed)}",
            )
        return self.modules or [
            name for name in allowed if self.after_attention or not targets[name].endswith(ATTENTION)
        ]

    def size(self, shapes: Shapes) -> int | None:
        return self.width

    def with_size(self, size: int, shapes: Shapes) -> Self:
        return replace(self, width=size)

    def count(self, shapes: Shapes) -> Count:
        m = self.width or 0
        total = sum(2 * m * d + m + d for d, _ in shapes.values())
        return Count(total, total)

    def describe(self) -> str:
        return f"width {self.width}"
