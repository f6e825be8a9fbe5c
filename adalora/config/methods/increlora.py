"""Options of IncreLoRA."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.config.methods.base import PlacedConfig, check_shared, require

COMPAT = ("none", "released")
GROWTH_SHARE, GROWTHS = 0.4, 15  # of T, and events, where nothing else is said


@dataclass
class IncreLoRAConfig(PlacedConfig):
    """W x + alpha / (rank + 1e-5) B diag(E) A x, with ranks grown to a shared budget."""

    lengths: ClassVar[tuple[str, ...]] = ("initial_steps", "interval")
    rank_of_maps: ClassVar[str | None] = "target_rank"

    name: str = "increlora"
    init_rank: int = 1
    target_rank: float | None = None
    add_rank: int | None = None
    top_h: int | None = None
    alpha: float = 16.0
    dropout: float = 0.0
    init_std: float = 0.02
    orthogonality: float = 0.1
    beta1: float = 0.85
    beta2: float = 0.85
    initial_steps: int | None = None
    interval: int | None = None
    advance_learning: bool = True
    restart_warmup: bool = True
    rescale: bool = False
    compat: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.compat in COMPAT, f"method.compat={self.compat}: allowed are {', '.join(COMPAT)}")
        for key in ("init_rank", "add_rank", "top_h", "interval"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"method.{key}={value}: at least 1 is needed")
        for key in ("initial_steps", "orthogonality"):
            value = getattr(self, key)
            require(value is None or value >= 0, f"method.{key}={value}: must not be negative")
        for key in ("beta1", "beta2"):
            value = getattr(self, key)
            require(0 <= value < 1, f"method.{key}={value}: must lie in [0, 1)")
        if self.target_rank is not None:
            require(
                self.target_rank >= self.init_rank,
                f"method.target_rank={self.target_rank:g} is below method.init_rank={self.init_rank}: "
                "IncreLoRA only grows; lower init_rank",
            )
            if self.add_rank is None:  # the released map 2, 4, 6, 8 -> 1, 2, 3, 4, for any target
                self.add_rank = max(1, round(self.target_rank / 2))
        check_shared(self)

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, target_rank=rank) if rank >= self.init_rank else None

    def planned(self, total_steps: int) -> Self:
        """Growth over the first 40 % of T in up to 15 events where nothing else is said, and the first
        at twice the interval (the published scripts: 20 to 65 % of T, 6 to 42 events)."""
        interval = self.interval or max(1, int(GROWTH_SHARE * total_steps) // (GROWTHS + 1))
        initial = interval if self.initial_steps is None else self.initial_steps
        return replace(self, interval=interval, initial_steps=initial)
