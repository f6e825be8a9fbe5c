"""Options of Houlsby adapters."""

from dataclasses import dataclass

from adalora.methods.bottleneck_options import BottleneckConfig
from adalora.options import option


@dataclass
class HoulsbyConfig(BottleneckConfig):
    """h + up(silu(down(h))) before the residual, after every attention and FFN."""

    name: str = "houlsby"
    modules: list[str] | None = option(
        None,
        help="short names of model.targets that get a bottleneck; null: the released ones, attention.output and "
        "output; in BART all of *.out and *.fc2",
    )


OPTIONS = HoulsbyConfig
