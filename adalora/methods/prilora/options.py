"""Options of PRILoRA."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.methods.options import Count, PlacedConfig, Shapes, given
from adalora.module_paths import layer_of
from adalora.options import at_least, not_negative, option, positive, require, share


@dataclass
class PRILoRAConfig(PlacedConfig):
    """W x + (alpha / r_l) B A x, with ranks that grow with the layer and a pruned A."""

    lengths: ClassVar[tuple[str, ...]] = ("initial_steps", "mask_interval")
    rank_option: ClassVar[str | None] = "mean_rank"
    basis: ClassVar[str] = "from the abstract"

    name: str = "prilora"
    mean_rank: float | None = option(
        None, at_least(1), help="mean rank over the layers, may be fractional; null: from the budget"
    )
    spread: float = option(
        0.5,
        help="ranks run from mean_rank (1 - spread) in the first layer to mean_rank (1 + spread) in the last, at "
        "least 1; below 0: decreasing; 0: LoRA's (ours)",
    )
    sparsity: float = option(
        0.5, share, help="rho, share of each row of A that is pruned; 0: none (ours, see docs/deviations.md)"
    )
    beta: float = option(0.9, share, help="decay of the average input norms over steps (ours)")
    alpha: float = option(16.0, positive, help="as LoRA's; scale is alpha / the layer's rank (ours)")
    dropout: float = option(0.0, share, help="dropout on the input of A")
    init_std: float = option(0.02, positive, help="standard deviation of the initial A, as LoRA's; B starts at 0")
    initial_steps: int | None = option(
        None, not_negative, help="steps before the first pruning; null: 15 % of T (ours)"
    )
    mask_interval: int | None = option(
        None, at_least(1), help="steps between prunings, with one more after the last step; null: 40 (ours)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(-1 < self.spread < 1, f"method.spread={self.spread:g}: must lie between -1 and 1, both excluded")

    def size(self, shapes: Shapes) -> int | None:
        return None if self.mean_rank is None else 1 + round((self.mean_rank - 1) * longest_stack(shapes))

    def with_size(self, size: int, shapes: Shapes) -> Self:
        """The sum of ranks over the (longest) stack's layers is `size` - 1 more than with rank 1 everywhere."""
        return replace(self, mean_rank=1 + (size - 1) / longest_stack(shapes))

    def count(self, shapes: Shapes) -> Count:
        ranks = self.ranks_of(shapes)
        total = sum(ranks[path] * sum(shape) for path, shape in shapes.items())
        return Count(total, total)

    def ranks_of(self, paths: Iterable[str]) -> dict[str, int]:
        """r_l of every target, computed per stack of layers."""
        mean, spread = given(self, "mean_rank"), self.spread
        half = math.copysign(min(abs(spread) * mean, mean - 1), spread)  # keeps r_s >= 1 and the mean
        places = {path: layer_of(path) for path in paths}
        layers: dict[str, list[int]] = {}
        for stack, layer in sorted(set(places.values())):
            layers.setdefault(stack, []).append(layer)
        ranks = {
            (stack, layer): rank
            for stack, found in layers.items()
            for layer, rank in zip(found, linear_ranks(mean - half, mean + half, len(found)), strict=True)
        }
        return {path: ranks[place] for path, place in places.items()}

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, mean_rank=rank) if rank >= 1 else None

    def describe(self) -> str:
        pruned = f", {self.sparsity:.0%} of A pruned" if self.sparsity else ""
        return f"mean rank {self.mean_rank:.4g}, spread {self.spread:g}{pruned}"

    def with_steps(self, total_steps: int) -> Self:
        """Default to pruning every 40 steps, starting at 15 % of T as in AdaLoRA (ours)."""
        initial, interval = self.initial_steps, self.mask_interval
        return replace(
            self,
            initial_steps=int(0.15 * total_steps) if initial is None else initial,
            mask_interval=40 if interval is None else interval,
        )


def longest_stack(paths: Iterable[str]) -> int:
    """L: the number of layers of the longest stack."""
    stacks = [stack for stack, _ in {layer_of(path) for path in paths}]
    return max(stacks.count(stack) for stack in stacks)


def linear_ranks(first: float, last: float, layers: int) -> list[int]:
    """r_1 .. r_L on a line from `first` to `last`, rounded to integers that keep the line's (rounded) sum.

    The largest fractions are rounded up; ties go to the higher rank, then to the later layer.
    """
    exact = [round(first + (last - first) * k / max(1, layers - 1), 9) for k in range(layers)]
    ranks = [math.floor(r) for r in exact]
    by_fraction = sorted(range(layers), key=lambda k: (round(exact[k] - ranks[k], 9), exact[k], k), reverse=True)
    for k in by_fraction[: round(layers * (first + last) / 2) - sum(ranks)]:
        ranks[k] += 1
    return ranks


OPTIONS = PRILoRAConfig
