"""Options of AdaLoRA."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.methods.options import Count, PlacedConfig, Shapes, given, with_phases
from adalora.methods.saved_adapter import SavedAdapter, read_adapter
from adalora.options import at_least, not_negative, one_of, option, positive, require, share


@dataclass
class AdaLoRAConfig(PlacedConfig):
    """W x + alpha / (init_rank + 1e-5) P diag(lambda) Q x, with triplets pruned to a shared budget."""

    lengths: ClassVar[tuple[str, ...]] = ("initial_steps", "final_steps", "mask_interval")
    rank_option: ClassVar[str | None] = "init_rank"

    name: str = "adalora"
    init_rank: int | None = option(
        None,
        at_least(1),
        help="initial rank slots in each module; null: from the budget. With target_rank equal to it (both 2 at 0.3M, "
        "both 8 at 1.2M) nothing is pruned: SVD-LoRA (Table 5)",
    )
    target_rank: float | None = option(
        None, positive, help="mean rank at the end, may be fractional; null: from the budget"
    )
    form: str = option(
        "triplets",
        one_of("triplets", "doublets"),
        help="triplets (P lambda Q), or doublets (LoRA's B A; Table 4)",
    )
    importance: str = option(
        "smoothed",
        one_of("smoothed", "sensitivity", "magnitude"),
        help="score: smoothed (sensitivity x uncertainty), sensitivity alone, or magnitude (|lambda|); "
        "the last two: Table 4",
    )
    alpha: float = option(16.0, positive, help="released scripts: 16 or 32 by task")
    dropout: float = option(0.0, share, help="dropout on the input of Q; the released models never set it")
    init_std: float = option(
        0.02, positive, help="standard deviation of the initial P and Q; lambda starts at 0 (released code)"
    )
    orthogonality: float = option(
        0.1,
        not_negative,
        help="gamma, weight of the mean unsquared norm (released form); paper: 0.1, 0.3, 0.5; 0: none (Table 5); "
        "doublets have none",
    )
    beta1: float = option(0.85, share, help="decay of the average sensitivity (paper, Section 4.1)")
    beta2: float = option(0.85, share, help="decay of the average uncertainty (paper, Section 4.1)")
    initial_steps: int | None = option(
        None, not_negative, help="t_i, steps before the first pruning; null: 15 % of T (ours)"
    )
    final_steps: int | None = option(None, not_negative, help="t_f, steps with the final ranks; null: 45 % of T (ours)")
    mask_interval: int | None = option(
        None, at_least(1), help="Delta_T, steps between prunings; null: 1; released scripts: 1, 10 or 100"
    )
    init_from: str | None = option(
        None, help="a folder with a PEFT AdaLoRA adapter to start from, head included; null: new initial values"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "doublets":
            require(
                self.importance != "magnitude",
                "method.importance=magnitude is |lambda|, which method.form=doublets doesn't have: use another",
            )
            require(self.init_from is None, "method.init_from holds triplets: not with method.form=doublets")
            self.orthogonality = 0.0  # recipes set it for triplets; LoRA's factors have none (D-doublets)
        if self.init_rank is not None and self.target_rank is not None:
            require(
                self.target_rank <= self.init_rank,
                f"method.target_rank={self.target_rank:g} is more than method.init_rank={self.init_rank}: AdaLoRA only "
                "prunes; raise init_rank",
            )

    @property
    def triplets(self) -> bool:
        return self.form == "triplets"

    def size(self, shapes: Shapes) -> int | None:
        return None if self.target_rank is None else self.final_budget(len(shapes))

    def with_size(self, size: int, shapes: Shapes) -> Self:
        """`size` triplets in total. The initial rank is 1.5 times the mean (paper, Section 4.1); if it is set, it
        limits the mean."""
        mean, initial = size / len(shapes), self.init_rank
        if initial is None:
            return replace(self, target_rank=mean, init_rank=math.ceil(1.5 * mean))
        return replace(self, target_rank=min(mean, initial))

    def count(self, shapes: Shapes) -> Count:
        slots = sum(d_out + d_in + self.triplets for d_out, d_in in shapes.values())
        kept = self.final_budget(len(shapes)) / len(shapes) * slots
        return Count(given(self, "init_rank") * slots, round(kept))

    def final_budget(self, n: int) -> int:
        """b_T, the total rank of n modules at the end."""
        return round(given(self, "target_rank") * n)

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, target_rank=rank) if self.init_rank is None or rank <= self.init_rank else None

    def describe(self) -> str:
        initial, target = self.init_rank, self.target_rank
        ranks = f"rank {initial}, fixed" if initial == target else f"rank {initial} -> {target:.4g}"
        return ranks if self.triplets else f"{ranks}, LoRA doublets"

    def with_steps(self, total_steps: int) -> Self:
        """`with_phases`, and a default mask interval of 1."""
        interval = 1 if self.mask_interval is None else self.mask_interval
        return with_phases(replace(self, mask_interval=interval), total_steps)

    def phases(self, shapes: Shapes, total_steps: int) -> str | None:
        if self.target_rank == self.init_rank:
            return None  # nothing is pruned
        n, final = len(shapes), given(self, "final_steps")
        often = "step" if self.mask_interval == 1 else f"{self.mask_interval} steps"
        return (
            f"total rank {given(self, 'init_rank') * n:,} until step {self.initial_steps:,}, pruned every {often} "
            f"until {total_steps - final:,}, {self.final_budget(n):,} until {total_steps:,}"
        )

    def initial_adapter(self) -> SavedAdapter | None:
        return None if self.init_from is None else read_adapter(self.init_from, self.name, "ADALORA")

    def from_rank(self, rank: int) -> Self:
        return replace(self, init_rank=rank) if self.init_rank is None else self


OPTIONS = AdaLoRAConfig
