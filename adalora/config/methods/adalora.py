"""Options of AdaLoRA."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

from adalora.config.methods.base import PlacedConfig, check_shared, require
from adalora.config.methods.start import Adapter, read_adapter

FORMS = ("triplets", "doublets")
IMPORTANCE = ("smoothed", "sensitivity", "magnitude")
C = TypeVar("C", bound=Any)  # with `initial_steps` and `final_steps`


@dataclass
class AdaLoRAConfig(PlacedConfig):
    """W x + alpha / (init_rank + 1e-5) P diag(lambda) Q x, with ranks pruned to a shared budget."""

    lengths: ClassVar[tuple[str, ...]] = ("initial_steps", "final_steps", "mask_interval")
    rank_of_maps: ClassVar[str | None] = "init_rank"

    name: str = "adalora"
    init_rank: int | None = None
    target_rank: float | None = None
    form: str = "triplets"
    importance: str = "smoothed"
    alpha: float = 16.0
    dropout: float = 0.0
    init_std: float = 0.02
    orthogonality: float = 0.1
    beta1: float = 0.85
    beta2: float = 0.85
    initial_steps: int | None = None
    final_steps: int | None = None
    mask_interval: int | None = None
    init_from: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, values in {"form": FORMS, "importance": IMPORTANCE}.items():
            value = getattr(self, key)
            require(value in values, f"method.{key}={value}: allowed are {', '.join(values)}")
        if self.form == "doublets":
            require(
                self.importance != "magnitude",
                "method.importance=magnitude is |lambda|, which method.form=doublets lacks: use another",
            )
            require(self.init_from is None, "method.init_from holds triplets: not with method.form=doublets")
            self.orthogonality = 0.0  # recipes give it for triplets; LoRA's factors have none (D-doublets)
        for key in ("init_rank", "mask_interval"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"method.{key}={value}: at least 1 is needed")
        for key in ("initial_steps", "final_steps", "orthogonality"):
            value = getattr(self, key)
            require(value is None or value >= 0, f"method.{key}={value}: must not be negative")
        for key in ("beta1", "beta2"):
            value = getattr(self, key)
            require(0 <= value < 1, f"method.{key}={value}: must lie in [0, 1)")
        if self.init_rank is not None and self.target_rank is not None:
            require(
                0 <= self.target_rank <= self.init_rank,
                f"method.target_rank={self.target_rank:g} must lie between 0 and "
                f"method.init_rank={self.init_rank}: AdaLoRA only prunes; raise init_rank",
            )
        check_shared(self)

    def from_rank(self, rank: int) -> Self:
        return replace(self, init_rank=rank) if self.init_rank is None else self

    def start(self) -> Adapter | None:
        return None if self.init_from is None else read_adapter(self.init_from, self.name, "ADALORA")

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, target_rank=rank) if self.init_rank is None or rank <= self.init_rank else None

    def planned(self, total_steps: int) -> Self:
        """`with_phases`, and every step prunes where nothing else is said."""
        interval = 1 if self.mask_interval is None else self.mask_interval
        return with_phases(replace(self, mask_interval=interval), total_steps)


def with_phases(config: C, total_steps: int) -> C:
    """t_i = 15 % and t_f = 45 % of T where nothing else is said (ours; the paper's RTE has 15
    and 46 %).

    Raises:
        UserError: t_i + t_f >= T, which leaves no step to prune in (D-phases).
    """
    t_i, t_f = config.initial_steps, config.final_steps
    t_i = int(0.15 * total_steps) if t_i is None else t_i
    t_f = int(0.45 * total_steps) if t_f is None else t_f
    require(
        t_i + t_f < total_steps,
        f"method.initial_steps={t_i} + method.final_steps={t_f} leave none of the {total_steps} "
        "training steps for pruning: lower them or train longer",
    )
    return replace(config, initial_steps=t_i, final_steps=t_f)
