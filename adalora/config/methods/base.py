"""What the options of all methods share."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from adalora.errors import UserError

if TYPE_CHECKING:
    from adalora.config.methods.start import Adapter


def require(good: bool, message: str) -> None:
    """Raise `UserError(message)` unless `good`."""
    if not good:
        raise UserError(message)


def check_name(key: str, name: str) -> None:
    """A name that becomes a folder's. Raises `UserError`."""
    require(
        re.fullmatch(r"\w[\w.%+-]*", name) is not None,
        f"{key}={name}: it names a folder, so letters, digits and . _ - + % are allowed, the first a letter or digit",
    )


def nearest(wrong: str, allowed: Iterable[str]) -> str:
    """The allowed names, those most like `wrong` first."""
    return ", ".join(sorted(allowed, key=lambda name: -SequenceMatcher(None, wrong, name).ratio()))


@dataclass
class MethodConfig:
    """What all methods share."""

    lengths: ClassVar[tuple[str, ...]] = ()  # fields in optimizer steps, which scale with training
    rank_of_maps: ClassVar[str | None] = None  # the option that is the (mean) rank of every map
    model_types: ClassVar[tuple[str, ...]] = ()  # architectures that it has a place in; (): any

    name: str = "?"

    @property
    def has_budget(self) -> bool:
        """False for methods of one size."""
        return True

    def planned(self, total_steps: int) -> Self:
        """This configuration for a training of `total_steps`, lengths left at None filled in.

        Raises:
            UserError: the lengths don't fit into the training.
        """
        return self

    def fitted(self, backbone: Any) -> Self:
        """This configuration for a backbone: what it leaves open and `backbone` (transformers'
        configuration of it) decides is filled in."""
        return self

    def at_rank(self, rank: float) -> Self | None:
        """This configuration at a mean rank over its maps; None where it has none, or can't take this one."""
        return None

    def start(self) -> "Adapter | None":
        """The adapter that training starts from, None where it starts from fresh values. Reads files.

        Raises:
            UserError: it isn't there, or of another type.
        """
        return None

    def from_rank(self, rank: int) -> Self:
        """This configuration for an adapter of this rank to start from: its rank where none is given."""
        return self


@dataclass
class PlacedConfig(MethodConfig):
    """A method that sits at some of the backbone's linear maps: `modules` are short names out of
    `model.targets`, None all of them (D-modules). Checked in schema.py, which knows the backbone."""

    modules: list[str] | None = None

    def __post_init__(self) -> None:
        require(self.modules != [], "method.modules=[]: give at least one of model.targets, or null for all")

    def places(self, model_type: str) -> list[str] | None:
        """The maps in a backbone of this architecture, None all that it names.

        Raises:
            UserError: the method has no place at one of `modules`.
        """
        return self.modules


class LowRank(Protocol):
    """The options that every low-rank method has."""

    alpha: float
    dropout: float
    init_std: float


def check_shared(config: LowRank) -> None:
    """The checks that every low-rank method with Gaussian factors needs. Raises `UserError`."""
    check_alpha(config.alpha)
    require(0 < config.init_std < math.inf, f"method.init_std={config.init_std:g}: must be positive and finite")
    check_dropout(config.dropout)


def given(config: MethodConfig, name: str) -> Any:
    """The value of an option that must not be open by now. Raises `UserError` where it is."""
    value = getattr(config, name)
    if value is None and name in config.lengths:
        raise UserError(f"method.{name} is open: {type(config).__name__}(...).planned(total_steps) fills the lengths")
    if value is None:
        raise UserError(f"method.{name} is open: give it, or solve it from a budget (adalora.budget.solve)")
    return value


def check_alpha(alpha: float) -> None:
    """alpha scales the increment. Raises `UserError`."""
    require(0 < alpha < math.inf, f"method.alpha={alpha:g}: must be positive and finite")


def check_dropout(dropout: float) -> None:
    """The rate of dropout on the increment's input. Raises `UserError`."""
    require(0 <= dropout < 1, f"method.dropout={dropout:g}: must lie in [0, 1)")


def check_positive(config: object, *keys: str) -> None:
    """Sizes, null where the budget decides. Raises `UserError`."""
    for key in keys:
        value = getattr(config, key)
        require(value is None or value >= 1, f"method.{key}={value}: at least 1 is needed")
