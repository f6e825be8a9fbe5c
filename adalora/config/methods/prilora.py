"""Options of PRILoRA."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.config.methods.base import PlacedConfig, check_positive, check_shared, require


@dataclass
class PRILoRAConfig(PlacedConfig):
    """W x + (alpha / r_l) B A x, with ranks that grow with the layer and a pruned A."""

    lengths: ClassVar[tuple[str, ...]] = ("initial_steps", "mask_interval")
    rank_of_maps: ClassVar[str | None] = "mean_rank"

    name: str = "prilora"
    mean_rank: float | None = None
    spread: float = 0.5
    sparsity: float = 0.5
    beta: float = 0.9
    alpha: float = 16.0
    dropout: float = 0.0
    init_std: float = 0.02
    initial_steps: int | None = None
    mask_interval: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mean_rank is None or self.mean_rank >= 1, f"method.mean_rank={self.mean_rank}: at least 1")
        require(-1 < self.spread < 1, f"method.spread={self.spread:g}: must lie between -1 and 1, both excluded")
        for key in ("sparsity", "beta"):
            value = getattr(self, key)
            require(0 <= value < 1, f"method.{key}={value:g}: must lie in [0, 1)")
        require(
            self.initial_steps is None or self.initial_steps >= 0,
            f"method.initial_steps={self.initial_steps}: must not be negative",
        )
        check_positive(self, "mask_interval")
        check_shared(self)

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, mean_rank=rank) if rank >= 1 else None

    def planned(self, total_steps: int) -> Self:
        """Every 40 steps, and from 15 % of T on as AdaLoRA, where nothing else is said (ours)."""
        initial, interval = self.initial_steps, self.mask_interval
        return replace(
            self,
            initial_steps=int(0.15 * total_steps) if initial is None else initial,
            mask_interval=40 if interval is None else interval,
        )
