"""Options of SoRA."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.config.methods.adalora import with_phases
from adalora.config.methods.base import PlacedConfig, check_shared, require

CHOICES = {"threshold": ("constant", "times_lr"), "compat": ("paper", "released")}


@dataclass
class SoRAConfig(PlacedConfig):
    """W x + (alpha / max_rank) B diag(g) A x, with a sparse gate g."""

    lengths: ClassVar[tuple[str, ...]] = ("initial_steps", "final_steps")
    rank_of_maps: ClassVar[str | None] = "max_rank"

    name: str = "sora"
    max_rank: int | None = None
    target_rank: float | None = None
    xi: float | None = None
    threshold: str = "constant"
    compat: str = "paper"
    penalty: float = 0.0
    gate_lr: float | None = None
    gate_eps: float = 1e-6
    alpha: float = 16.0
    dropout: float = 0.0
    init_std: float = 1.0
    initial_steps: int | None = None
    final_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, values in CHOICES.items():
            value = getattr(self, key)
            require(value in values, f"method.{key}={value}: allowed are {', '.join(values)}")
        require(
            self.threshold == "constant" or self.xi is not None,
            f"method.threshold={self.threshold} is of a threshold that is given: set method.xi, such as 3e-4",
        )
        require(self.max_rank is None or self.max_rank >= 1, f"method.max_rank={self.max_rank}: at least 1 is needed")
        for key in ("initial_steps", "final_steps", "penalty", "xi"):
            value = getattr(self, key)
            require(value is None or 0 <= value < float("inf"), f"method.{key}={value}: must be finite, not negative")
        for key in ("gate_lr", "gate_eps"):
            value = getattr(self, key)
            require(value is None or 0 < value < float("inf"), f"method.{key}={value}: must be positive and finite")
        if self.max_rank is not None and self.target_rank is not None:
            require(
                0 <= self.target_rank <= self.max_rank,
                f"method.target_rank={self.target_rank:g} must lie between 0 and "
                f"method.max_rank={self.max_rank}: SoRA only prunes; raise max_rank",
            )
        check_shared(self)

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, target_rank=rank) if self.max_rank is None or rank <= self.max_rank else None

    def planned(self, total_steps: int) -> Self:
        """AdaLoRA's phases, 15 % and 45 % of T where nothing else is said (ours). A `xi` that is
        given acts at every step and needs none."""
        return self if self.xi is not None else with_phases(self, total_steps)
