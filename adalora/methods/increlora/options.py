"""Options of IncreLoRA."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.errors import UserError
from adalora.methods.options import Count, PlacedConfig, Shapes, given
from adalora.options import at_least, not_negative, one_of, option, positive, require, share

GROWTH_SHARE, GROWTHS = 0.4, 15  # default share of T and number of growths (ours)


@dataclass(frozen=True)
class Growth:
    """When ranks are added, and how many.

    The released code caps the number of modules, not of ranks; ours ends exactly at the target (D-incre-total,
    D-incre-short).

    Args:
        start, target: total rank of all modules at the start and the end.
        add: ranks that a chosen module gains.
        top_h: modules chosen at once.
        initial_steps, interval: growth happens at t > initial_steps if t is a multiple of interval.
        exact: the last module gains only the ranks that are left; the released code may end above the target.
    """

    start: int
    target: int
    add: int
    top_h: int
    initial_steps: int
    interval: int
    exact: bool

    def due(self, t: int) -> bool:
        return t > self.initial_steps and t % self.interval == 0

    def amounts(self, total: int) -> list[int]:
        """Ranks that the chosen modules gain, best first, at a total rank of `total`."""
        left = self.target - total
        if not self.exact:
            return [self.add] * min(self.top_h, left)
        chosen = min(self.top_h, math.ceil(left / self.add))
        return [min(self.add, left - i * self.add) for i in range(chosen)]

    def last_step(self) -> int:
        """t of the growth that reaches the target (ignoring ties); 0 without growth."""
        total, t = self.start, 0
        while total < self.target:
            t += self.interval if t else (self.initial_steps // self.interval + 1) * self.interval
            total += sum(self.amounts(total))
        return t


@dataclass
class IncreLoRAConfig(PlacedConfig):
    """W x + alpha / (rank + 1e-5) B diag(E) A x, with ranks grown to a shared budget."""

    lengths: ClassVar[tuple[str, ...]] = ("initial_steps", "interval")
    rank_option: ClassVar[str | None] = "target_rank"
    accumulates: ClassVar[bool] = True

    name: str = "increlora"
    init_rank: int = option(1, at_least(1), help="initial rank of every module (paper, Section 3.2; every script)")
    target_rank: float | None = option(None, help="mean rank at the end, may be fractional; null: from the budget")
    add_rank: int | None = option(
        None,
        at_least(1),
        help="ranks that a chosen module gains at a time, and the size of its reserve; null: half the target rank, at "
        "least 1 (released map: 1, 2, 3, 4 for 2, 4, 6, 8)",
    )
    top_h: int | None = option(
        None,
        at_least(1),
        help="modules chosen at each growth; null: enough to finish within 40 % of T (ours); released scripts: 1 to 22",
    )
    alpha: float = option(16.0, positive, help="scale is alpha / current rank; released scripts: 16 or 32 by task")
    dropout: float = option(0.0, share, help="dropout on the input of A; released scripts: 0 to 0.3")
    init_std: float = option(
        0.02, positive, help="standard deviation of the initial A and B; E starts at 0 (released code)"
    )
    orthogonality: float = option(
        0.1,
        not_negative,
        help="gamma, weight of the mean unsquared norm (released form); scripts: 0.1 or 0.3; 0: none",
    )
    beta1: float = option(0.85, share, help="decay of the average module score (released scripts)")
    beta2: float = option(0.85, share, help="decay of the average uncertainty (released scripts)")
    initial_steps: int | None = option(
        None, not_negative, help="steps before the first growth; null: as interval (every script has them equal)"
    )
    interval: int | None = option(
        None,
        at_least(1),
        help="steps between growths; null: 15 growths within 40 % of T (ours); scripts: 100 to 1000",
    )
    advance_learning: bool = option(
        True, help="reserve ranks train A and B with E fixed at 1e-5; false: everything fixed, E at 0"
    )
    restart_warmup: bool = option(
        True,
        help="added parameters get a new warm-up and end with the others (released: multi_lr); false: they follow "
        "the common schedule",
    )
    rescale: bool = option(False, help="true: growth leaves the update unchanged by rescaling the module's E (ours)")
    compat: str = option(
        "none",
        one_of("none", "released"),
        help="none (ends at the target exactly), released (its overshoot and ties)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_rank is not None:
            require(
                self.target_rank >= self.init_rank,
                f"method.target_rank={self.target_rank:g} is below method.init_rank={self.init_rank}: "
                "IncreLoRA only grows; lower init_rank",
            )
            if self.add_rank is None:  # the released map 2, 4, 6, 8 -> 1, 2, 3, 4, for any target
                self.add_rank = max(1, round(self.target_rank / 2))

    def size(self, shapes: Shapes) -> int | None:
        n = len(shapes)
        return None if self.target_rank is None else round(self.target_rank * n) - n * self.init_rank + 1

    def with_size(self, size: int, shapes: Shapes) -> Self:
        """A total rank of `size` - 1 beyond the initial one."""
        return replace(self, target_rank=self.init_rank + (size - 1) / len(shapes))

    def count(self, shapes: Shapes) -> Count:
        a_rank = sum(map(sum, shapes.values()))
        total = round(given(self, "target_rank") * len(shapes))
        kept = round(total / len(shapes) * (a_rank + len(shapes)))
        learns = self.advance_learning and total > len(shapes) * self.init_rank
        return Count(kept + learns * given(self, "add_rank") * a_rank, kept)

    def initial(self, shapes: Shapes) -> int:
        return self.init_rank * sum(d_out + d_in + 1 for d_out, d_in in shapes.values())

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, target_rank=rank) if rank >= self.init_rank else None

    def describe(self) -> str:
        if self.target_rank == self.init_rank:
            return f"rank {self.init_rank}, fixed"
        return f"rank {self.init_rank} -> {self.target_rank:.4g}, {self.add_rank} at a time"

    def with_steps(self, total_steps: int) -> Self:
        """Default to at most 15 growths over the first 40 % of T, the first at twice the interval (published scripts: 6
        to 42 growths over 20 to 65 % of T)."""
        interval = self.interval or max(1, int(GROWTH_SHARE * total_steps) // (GROWTHS + 1))
        initial = interval if self.initial_steps is None else self.initial_steps
        return replace(self, interval=interval, initial_steps=initial)

    def growth(self, n: int, total_steps: int) -> Growth:
        """The schedule for n modules. `top_h` defaults to the smallest that reaches the target within 40 % of T."""
        add, initial, interval = (given(self, name) for name in ("add_rank", "initial_steps", "interval"))
        start, target = n * self.init_rank, round(given(self, "target_rank") * n)
        events = int(GROWTH_SHARE * total_steps) // interval - initial // interval
        top_h = self.top_h or max(1, math.ceil((target - start) / add / max(1, events)))
        return Growth(start, target, add, min(top_h, n), initial, interval, exact=self.compat == "none")

    def check(self, shapes: Shapes, total_steps: int) -> None:
        """Reject a training that ends before the target is reached."""
        growth = self.growth(len(shapes), total_steps)
        if (last := growth.last_step()) >= total_steps:
            raise UserError(
                f"IncreLoRA would reach its {growth.target} ranks at step {last}, but training has {total_steps}: "
                f"raise method.top_h={growth.top_h}, lower method.interval={growth.interval}, or train longer"
            )


OPTIONS = IncreLoRAConfig
