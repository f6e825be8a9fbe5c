"""Options of SoRA."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.methods.options import Count, PlacedConfig, Shapes, given, with_phases
from adalora.options import at_least, not_negative, one_of, option, positive, require, share

PAPER_RANK = 8  # r_max in the paper's runs


@dataclass
class SoRAConfig(PlacedConfig):
    """W x + (alpha / max_rank) B diag(g) A x, with a sparse gate g."""

    lengths: ClassVar[tuple[str, ...]] = ("initial_steps", "final_steps")
    rank_option: ClassVar[str | None] = "max_rank"

    name: str = "sora"
    max_rank: int | None = option(
        None,
        at_least(1),
        help="gates in each module; null: from the budget (8 as the paper, 12 for a mean rank of 8)",
    )
    target_rank: float | None = option(
        None, help="mean rank at the end, by parameters, may be fractional; null: from the budget"
    )
    xi: float | None = option(
        None,
        not_negative,
        help="threshold on the gates at every step (released scripts: 3e-4; up to 7e-4); the final size is then an "
        "outcome, and the budget only names the cell. null: xi follows the budget's schedule at every step (ours)",
    )
    threshold: str = option(
        "constant",
        one_of("constant", "times_lr"),
        help="how a given xi changes: constant (released), or times_lr (the paper's eta_t lambda: xi at the peak of "
        "the learning rate, and proportional to it)",
    )
    compat: str = option(
        "paper",
        one_of("paper", "released"),
        help="paper: soft threshold, torch's AdamW; released: the released operator, which zeroes everything below "
        "2 xi, and transformers 4.14's AdamW for all parameters",
    )
    penalty: float = option(
        0.0, not_negative, help="weight of mean |g| in the loss; released scripts: 10, or 1e-3; the paper has none"
    )
    gate_lr: float | None = option(
        None, positive, help="peak learning rate of the gates; null: training.lr (released scripts)"
    )
    gate_eps: float = option(1e-6, positive, help="Adam's epsilon of the gates (released code)")
    alpha: float = option(16.0, positive, help="scale is alpha / max_rank, also after pruning (released code)")
    dropout: float = option(0.0, share, help="dropout on the input of A")
    init_std: float = option(
        1.0,
        positive,
        help="standard deviation of the initial gates (released code); A is Kaiming-uniform, B starts at 0",
    )
    initial_steps: int | None = option(
        None, not_negative, help="t_i, steps before the first threshold; null: 15 % of T (ours); unused with xi"
    )
    final_steps: int | None = option(
        None, not_negative, help="t_f, steps with the final gates; null: 45 % of T (ours); unused with xi"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.threshold == "constant" or self.xi is not None,
            f"method.threshold={self.threshold} needs a given xi: set method.xi, such as 3e-4",
        )
        if self.max_rank is not None and self.target_rank is not None:
            require(
                0 <= self.target_rank <= self.max_rank,
                f"method.target_rank={self.target_rank:g} must lie between 0 and "
                f"method.max_rank={self.max_rank}: SoRA only prunes; raise max_rank",
            )

    def size(self, shapes: Shapes) -> int | None:
        return None if self.target_rank is None else round(self.target_rank * len(shapes))

    def with_size(self, size: int, shapes: Shapes) -> Self:
        """`size` gates in total. r_max is the paper's 8, or 1.5 times the mean if that is more (ours, as in AdaLoRA);
        if it is set, it limits the mean."""
        mean, most = size / len(shapes), self.max_rank
        if most is None:
            return replace(self, target_rank=mean, max_rank=max(PAPER_RANK, math.ceil(1.5 * mean)))
        return replace(self, target_rank=min(mean, most))

    def count(self, shapes: Shapes) -> Count:
        slots = sum(map(sum, shapes.values()))
        return Count(given(self, "max_rank") * (slots + len(shapes)), self.final_budget(slots))

    def final_budget(self, slots: int) -> int:
        """b_T in parameters, if one gate per module is `slots` parameters in total."""
        return round(given(self, "target_rank") * slots)

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, target_rank=rank) if self.max_rank is None or rank <= self.max_rank else None

    def describe(self) -> str:
        most, target, xi = self.max_rank, self.target_rank, self.xi
        if xi is not None:
            return f"rank {most}, xi {xi:g} decides the final size"
        return f"rank {most}, fixed" if target == most else f"rank {most} -> {target:.4g}"

    def with_steps(self, total_steps: int) -> Self:
        """Default to AdaLoRA's phases, 15 % and 45 % of T (ours). With `xi` there are no phases: it acts at every
        step."""
        return self if self.xi is not None else with_phases(self, total_steps)

    def phases(self, shapes: Shapes, total_steps: int) -> str | None:
        if self.xi is not None or self.target_rank == self.max_rank:
            return None
        final, last = self.final_budget(sum(map(sum, shapes.values()))), total_steps - given(self, "final_steps")
        return (
            f"{given(self, 'max_rank') * len(shapes):,} gates until step {self.initial_steps:,}, "
            f"thresholded every step until {last:,}, {final:,} parameters until {total_steps:,}"
        )


OPTIONS = SoRAConfig
