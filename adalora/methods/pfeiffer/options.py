"""Options of Pfeiffer adapters."""

from dataclasses import dataclass
from typing import ClassVar

from adalora.methods.bottleneck_options import BottleneckConfig
from adalora.options import option


@dataclass
class PfeifferConfig(BottleneckConfig):
    """h + up(relu(down(LayerNorm(h + residual)))) before the residual, after the FFN."""

    after_attention: ClassVar[bool] = False

    name: str = "pfeiffer"
    modules: list[str] | None = option(
        None,
        help="short names of model.targets that get a bottleneck; null: the released one, output; in BART *.fc2",
    )


OPTIONS = PfeifferConfig
