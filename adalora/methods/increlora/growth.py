"""IncreLoRA's growth schedule (arXiv 2308.12043). Independent of model code.

The released code caps the number of modules, not of ranks; ours ends exactly at the target
(docs/deviations.md: D-incre-total, D-incre-short).
"""

import math
from dataclasses import dataclass

GROWTH_SHARE, GROWTHS = 0.4, 15  # default share of T and number of growths (ours)


@dataclass(frozen=True)
class Growth:
    """When ranks are added, and how many.

    Args:
        start, target: total rank of all modules at the start and the end.
        add: ranks that a chosen module gains.
        top_h: modules chosen at once.
        initial_steps, interval: growth happens at t > initial_steps if t is a multiple of interval.
        exact: the last module gains only the ranks that are left; the released code caps the number of modules
            instead, and may end above the target.
    """

    start: int
    target: int
    add: int
    top_h: int
    initial_steps: int
    interval: int
    exact: bool

    @classmethod
    def planned(
        cls,
        n: int,
        total_steps: int,
        *,
        init_rank: int,
        target_rank: float,
        add: int,
        top_h: int | None,
        initial_steps: int,
        interval: int,
        exact: bool,
    ) -> "Growth":
        """The schedule for n modules. `top_h` defaults to the smallest that reaches the target within 40 % of T."""
        start, target = n * init_rank, round(target_rank * n)
        events = int(GROWTH_SHARE * total_steps) // interval - initial_steps // interval
        top_h = top_h or max(1, math.ceil((target - start) / add / max(1, events)))
        return cls(start, target, add, min(top_h, n), initial_steps, interval, exact)

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
