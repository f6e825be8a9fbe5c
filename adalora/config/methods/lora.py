"""Options of LoRA."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.config.methods.base import PlacedConfig, check_shared, require
from adalora.config.methods.start import Adapter, read_adapter

INITS = ("normal", "kaiming")


@dataclass
class LoRAConfig(PlacedConfig):
    """W x + (alpha / rank) B A x."""

    rank_of_maps: ClassVar[str | None] = "rank"

    name: str = "lora"
    rank: int | None = None
    alpha: float = 16.0
    dropout: float = 0.0
    init: str = "normal"
    init_std: float = 0.02
    orthogonality: float = 0.0
    init_from: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rank is None or self.rank >= 1, f"method.rank={self.rank}: at least 1 is needed")
        require(self.init in INITS, f"method.init={self.init}: allowed are {', '.join(INITS)}")
        require(
            0 <= self.orthogonality < math.inf,
            f"method.orthogonality={self.orthogonality:g}: must not be negative, and be finite",
        )
        check_shared(self)

    def from_rank(self, rank: int) -> Self:
        return replace(self, rank=rank) if self.rank is None else self

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, rank=int(rank)) if float(rank).is_integer() else None

    def start(self) -> Adapter | None:
        return None if self.init_from is None else read_adapter(self.init_from, self.name, "LORA")
