"""Options shared by all methods, and sizing for a budget."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from adalora.errors import UserError
from adalora.methods.saved_adapter import SavedAdapter
from adalora.options import at_least, check_options, option, require

C = TypeVar("C", bound=Any)  # has `initial_steps` and `final_steps`
Shapes = Mapping[str, tuple[int, int]]
"""Target path -> (d_out, d_in) of its weight."""


class Count(NamedTuple):
    """Adapter parameters without the head: the peak in training, and those kept."""

    peak: int
    kept: int


@dataclass
class MethodConfig:
    """A method's options, and its sizing as pure functions of options and shapes. Methods override what they need.

    `size` is an integer that a budget is solved for, such as LoRA's rank or the total number of triplets.
    `with_size(size, shapes)` gives the options at a size, `count(shapes)` their parameters.
    """

    lengths: ClassVar[tuple[str, ...]] = ()  # fields in optimizer steps: they scale with T
    rank_option: ClassVar[str | None] = None  # the option with the (mean) rank of the modules
    accumulates: ClassVar[bool] = False  # whether the layer keeps a gradient of every adapted weight
    basis: ClassVar[str] = ""  # what a reconstruction is made from, where neither full text nor code could be had
    default_lr: ClassVar[float] = 1e-3  # training.lr if conf/method/<name>.yaml gives none (ours)

    name: str = "?"

    def __post_init__(self) -> None:
        check_options(self, "method")

    # -- sizing

    @property
    def has_budget(self) -> bool:
        """False for methods with a fixed size."""
        return True

    def size(self, shapes: Shapes) -> int | None:
        """The size if the user set it; None if the budget decides."""
        return None

    def with_size(self, size: int, shapes: Shapes) -> Self:
        """These options at `size` >= 1; parameters grow with it."""
        raise TypeError(f"{self.name} has no size that a budget could set")

    def count(self, shapes: Shapes) -> Count:
        """Count the parameters that these options add; adaptive methods count a uniform allocation."""
        return Count(0, 0)

    def trains(self, parameter: str) -> bool:
        """Whether the backbone's parameter of this name is trained itself, in a method without a choice of budget."""
        return False

    def initial(self, shapes: Shapes) -> int | None:
        """Adapter parameters at the start for methods that grow; None: the peak from `count`."""
        return None

    def select(self, shapes: Shapes) -> Shapes:
        """The targets that the method adapts."""
        return shapes

    def at_rank(self, rank: float) -> Self | None:
        """These options at a mean rank; None if the method has none, or can't have this one."""
        return None

    def with_backbone(self, backbone: Any) -> Self:
        """These options with everything filled in that depends on `backbone`: its outline, or transformers'
        configuration, which has the same names."""
        return self

    def describe(self) -> str:
        """The size in words, such as `rank 4 -> 2`."""
        return self.name

    # -- the length of the training, T

    def with_steps(self, total_steps: int) -> Self:
        """These options with lengths that are None filled in for T = `total_steps`.

        Raises:
            UserError: the lengths don't fit into T.
        """
        return self

    def check(self, shapes: Shapes, total_steps: int) -> None:
        """Reject planned lengths that don't fit into T. Raises `UserError`."""

    def phases(self, shapes: Shapes, total_steps: int) -> str | None:
        """The phases of the training in words, if the method has any."""
        return None

    # -- an adapter to start from

    def initial_adapter(self) -> SavedAdapter | None:
        """Read the adapter that training starts from; None for fresh values.

        Raises:
            UserError: it is missing, or of another type.
        """
        return None

    def from_rank(self, rank: int) -> Self:
        """These options for an initial adapter of this rank, which is used if none is set."""
        return self


@dataclass
class PlacedConfig(MethodConfig):
    """Options of a method that adapts a choice of the backbone's linear layers (D-modules)."""

    modules: list[str] | None = option(None, help="short names of model.targets, such as [query,value]; null: all")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.modules != [], "method.modules=[]: give at least one of model.targets, or null for all")

    def module_names(self, targets: Mapping[str, str]) -> list[str] | None:
        """The adapted modules, a subset of `model.targets` (short name -> path); None for all.

        Raises:
            UserError: the method can't adapt one of `modules`.
        """
        return self.modules


@dataclass
class RankConfig(PlacedConfig):
    """Options of a method whose size is one rank; LoRA's count by default."""

    rank: int | None = option(None, at_least(1), help="null: from the budget")

    def size(self, shapes: Shapes) -> int | None:
        return self.rank

    def with_size(self, size: int, shapes: Shapes) -> Self:
        return replace(self, rank=size)

    def count(self, shapes: Shapes) -> Count:
        """Sum of r (d_in + d_out)."""
        total = (self.rank or 0) * sum(map(sum, shapes.values()))
        return Count(total, total)

    def describe(self) -> str:
        return f"rank {self.rank}"


def given(config: MethodConfig, name: str) -> Any:
    """The value of an option that must be resolved by now. Raises `UserError` if it is None."""
    value = getattr(config, name)
    if value is None and name in config.lengths:
        raise UserError(
            f"method.{name} is unset: {type(config).__name__}(...).with_steps(total_steps) fills the lengths"
        )
    if value is None:
        raise UserError(f"method.{name} is unset: set it, or solve it from a budget (adalora.planning.budget.solve)")
    return value


def with_phases(config: C, total_steps: int) -> C:
    """Default to t_i = 15 % and t_f = 45 % of T (ours; the paper's RTE has 15 and 46 %).

    Raises:
        UserError: t_i + t_f >= T, which leaves no step for pruning (D-phases).
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
