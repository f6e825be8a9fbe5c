"""What the options of all methods share, and how a method comes to its size. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from adalora.errors import UserError
from adalora.options import check_options, option, require

if TYPE_CHECKING:
    from adalora.methods.saved_adapter import SavedAdapter

Shapes = Mapping[str, tuple[int, int]]
"""Target path -> (d_out, d_in) of its weight."""


class Count(NamedTuple):
    """Adapter parameters, head excluded: the most that are trained at once, and what is kept."""

    peak: int
    kept: int


@dataclass
class MethodConfig:
    """A method's options, and its sizing: pure functions of options and shapes. A method overrides what it needs.

    `size` is a whole number that a budget is solved for, such as LoRA's rank or the triplets of all modules
    together: `sized(size, shapes)` are the options at one, and `count(shapes)` what these come to.
    """

    lengths: ClassVar[tuple[str, ...]] = ()  # fields in optimizer steps, which scale with training
    rank_of_maps: ClassVar[str | None] = None  # the option that is the (mean) rank of every map
    default_lr: ClassVar[float] = 1e-3  # training.lr where no conf/method/<name>.yaml gives one (ours)

    name: str = "?"

    def __post_init__(self) -> None:
        check_options(self, "method")

    # -- sizing

    @property
    def has_budget(self) -> bool:
        """False for methods of one size."""
        return True

    def size(self, shapes: Shapes) -> int | None:
        """The size that the options set by hand, None where the budget decides."""
        return None

    def sized(self, size: int, shapes: Shapes) -> Self:
        """These options at integer size `size` >= 1: more size, more parameters."""
        raise TypeError(f"{self.name} has no size to choose")

    def count(self, shapes: Shapes) -> Count:
        """Parameters of these options; an adaptive method counts a uniform allocation."""
        raise TypeError(f"{self.name} has no size to count")

    def initial(self, shapes: Shapes) -> int | None:
        """Adapter parameters trained at first, where ranks grow; None: the peak that `count` says."""
        return None

    def adapted(self, shapes: Shapes) -> Shapes:
        """Those of the targets that it really adapts."""
        return shapes

    def at_rank(self, rank: float) -> Self | None:
        """These options at a mean rank over its maps; None where it has none, or can't take this one."""
        return None

    def fitted(self, backbone: Any) -> Self:
        """These options for a backbone: what is open and `backbone` (transformers' configuration of it) decides
        is filled in."""
        return self

    def describe(self) -> str:
        """The setting in words, such as `rank 4 -> 2`."""
        return self.name

    # -- the training's length T

    def planned(self, total_steps: int) -> Self:
        """These options for a training of `total_steps`, lengths left at None filled in.

        Raises:
            UserError: the lengths don't fit into the training.
        """
        return self

    def check(self, shapes: Shapes, total_steps: int) -> None:
        """Refuse planned options that don't fit into the training. Raises `UserError`."""

    def phases(self, shapes: Shapes, total_steps: int) -> str | None:
        """The parts of the training in words and steps, where the method has them."""
        return None

    # -- an adapter to start from

    def initial_adapter(self) -> "SavedAdapter | None":
        """The adapter that training starts from, None where it starts from fresh values. Reads files.

        Raises:
            UserError: it isn't there, or of another type.
        """
        return None

    def from_rank(self, rank: int) -> Self:
        """These options for an adapter of this rank to start from: its rank where none is given."""
        return self


@dataclass
class PlacedConfig(MethodConfig):
    """A method that sits at some of the backbone's linear maps (D-modules)."""

    modules: list[str] | None = option(None, help="short names of model.targets, such as [query,value]; null: all")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.modules != [], "method.modules=[]: give at least one of model.targets, or null for all")

    def places(self, targets: Mapping[str, str]) -> list[str] | None:
        """The maps that are adapted, out of `model.targets` (short name -> path); None all of them.

        Raises:
            UserError: the method has no place at one of `modules`.
        """
        return self.modules


def given(config: MethodConfig, name: str) -> Any:
    """The value of an option that must not be open by now. Raises `UserError` where it is."""
    value = getattr(config, name)
    if value is None and name in config.lengths:
        raise UserError(f"method.{name} is open: {type(config).__name__}(...).planned(total_steps) fills the lengths")
    if value is None:
        raise UserError(f"method.{name} is open: give it, or solve it from a budget (adalora.budget.solve)")
    return value
