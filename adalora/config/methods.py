"""The options of every method. A field left at None is solved from the budget.

Defaults come from the released code (QingruZhang/AdaLoRA) unless a comment says otherwise;
`conf/method/<name>.yaml` shows the same values with their sources (a test keeps them equal).
"""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from adalora.errors import UserError


def require(good: bool, message: str) -> None:
    """Raise `UserError(message)` unless `good`."""
    if not good:
        raise UserError(message)


@dataclass
class MethodConfig:
    """What all methods share."""

    lengths: ClassVar[tuple[str, ...]] = ()  # fields in optimizer steps, which scale with training
    model_types: ClassVar[tuple[str, ...]] = ()  # architectures that it has a place in; (): any

    name: str = "?"

    def planned(self, total_steps: int) -> Self:
        """This configuration for a training of `total_steps`, lengths left at None filled in.

        Raises:
            UserError: the lengths don't fit into the training.
        """
        return self


@dataclass
class FullConfig(MethodConfig):
    """Full fine-tuning: no options, and no choice of budget."""

    name: str = "full"


@dataclass
class BitFitConfig(MethodConfig):
    """Biases only: no options, and no choice of budget."""

    name: str = "bitfit"


@dataclass
class PlacedConfig(MethodConfig):
    """A method that sits at some of the backbone's linear maps: `modules` are short names out of
    `model.targets`, None all of them (D-modules). Checked in schema.py, which knows the backbone."""

    modules: list[str] | None = None

    def __post_init__(self) -> None:
        require(self.modules != [], "method.modules=[]: give at least one of model.targets, or null for all")


@dataclass
class BottleneckConfig(PlacedConfig):
    """A bottleneck in the blocks of the maps `modules`."""

    model_types: ClassVar[tuple[str, ...]] = ("deberta-v2",)
    blocks: ClassVar[tuple[str, ...]] = ("attention.output", "output")  # maps with residual and LayerNorm

    width: int | None = None
    init_std: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width is None or self.width >= 1, f"method.width={self.width}: at least 1 is needed")
        require(0 < self.init_std < math.inf, f"method.init_std={self.init_std:g}: must be positive and finite")
        for name in self.modules or ["null"]:
            require(name in self.blocks, f"method.modules: {name} has no block, allowed are {', '.join(self.blocks)}")


@dataclass
class HoulsbyConfig(BottleneckConfig):
    """h + up(silu(down(h))) before the residual, twice a layer."""

    name: str = "houlsby"
    modules: list[str] | None = field(default_factory=lambda: ["attention.output", "output"])


@dataclass
class PfeifferConfig(BottleneckConfig):
    """h + up(relu(down(LayerNorm(h + residual)))) before the residual, once a layer."""

    name: str = "pfeiffer"
    modules: list[str] | None = field(default_factory=lambda: ["output"])


@dataclass
class LoRAConfig(PlacedConfig):
    """W x + (alpha / rank) B A x."""

    name: str = "lora"
    rank: int | None = None
    alpha: float = 16.0
    dropout: float = 0.0
    init_std: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rank is None or self.rank >= 1, f"method.rank={self.rank}: at least 1 is needed")
        check_shared(self)


FORMS = ("triplets", "doublets")
IMPORTANCE = ("smoothed", "sensitivity", "magnitude")


@dataclass
class AdaLoRAConfig(PlacedConfig):
    """W x + alpha / (init_rank + 1e-5) P diag(lambda) Q x, with ranks pruned to a shared budget."""

    lengths: ClassVar[tuple[str, ...]] = ("initial_steps", "final_steps", "mask_interval")

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
    mask_interval: int = 1

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

    def planned(self, total_steps: int) -> Self:
        """t_i = 15 % and t_f = 45 % of T where nothing else is said (ours; the paper's RTE has 15
        and 46 %). Refuses t_i + t_f >= T, which leaves no step to prune in (D-phases)."""
        initial, final = self.initial_steps, self.final_steps
        filled = replace(
            self,
            initial_steps=int(0.15 * total_steps) if initial is None else initial,
            final_steps=int(0.45 * total_steps) if final is None else final,
        )
        t_i, t_f = filled.initial_steps or 0, filled.final_steps or 0
        require(
            t_i + t_f < total_steps,
            f"method.initial_steps={t_i} + method.final_steps={t_f} leave none of the {total_steps} "
            "training steps for pruning: lower them or train longer",
        )
        return filled


def check_shared(config: LoRAConfig | AdaLoRAConfig) -> None:
    """The checks that every low-rank method needs. Raises `UserError`."""
    require(0 < config.alpha < math.inf, f"method.alpha={config.alpha:g}: must be positive and finite")
    require(0 < config.init_std < math.inf, f"method.init_std={config.init_std:g}: must be positive and finite")
    require(0 <= config.dropout < 1, f"method.dropout={config.dropout:g}: must lie in [0, 1)")


METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    "adalora": AdaLoRAConfig,
    "lora": LoRAConfig,
    "houlsby": HoulsbyConfig,
    "pfeiffer": PfeifferConfig,
    "bitfit": BitFitConfig,
    "full": FullConfig,
}
