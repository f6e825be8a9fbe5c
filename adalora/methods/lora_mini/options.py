"""Options of LoRA-Mini."""

from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar, Self

from adalora.methods.options import Count, PlacedConfig, Shapes, given
from adalora.options import at_least, one_of, option, positive, require, share


@dataclass
class LoRAMiniConfig(PlacedConfig):
    """W x + (alpha / rank) B_out B_in A_in A_out x, with the inner two trained."""

    basis: ClassVar[str] = "from the abstract"

    name: str = "lora_mini"
    rank: int | None = option(None, at_least(1), help="r of the inner factors; null: from the budget")
    inner_in: int | None = option(
        None, at_least(1), help="a, dimension of the fixed subspace of inputs; null: from the budget, 2 rank"
    )
    inner_out: int | None = option(None, at_least(1), help="b, the same of the outputs")
    outer: str = option(
        "orthonormal",
        one_of("orthonormal", "gaussian"),
        help="frozen factors: orthonormal (ours), gaussian (the same size on average)",
    )
    alpha: float = option(16.0, positive, help="ours, as for LoRA")
    dropout: float = option(0.0, share, help="dropout on the input of A_out")

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("inner_in", "inner_out"):
            inner = getattr(self, key)
            require(
                self.rank is None or inner is None or self.rank <= inner,
                f"method.rank={self.rank} is above method.{key}={inner}, which bounds the update's rank: lower it",
            )

    def size(self, shapes: Shapes) -> int | None:
        return None if None in (self.rank, self.inner_in, self.inner_out) else self.rank

    def with_size(self, size: int, shapes: Shapes) -> Self:
        """Fill in sizes from `size`. If a and b are set, r = `size`. If r is set, an unset a or b is r - 1 + `size`.
        Otherwise an unset a or b is `size`, and r is half of `size`, rounded up (ours).

        A computed r is at most a and b; a computed a or b is at most the modules' smallest side.
        """
        least = min(map(min, shapes.values()))
        if self.inner_in and self.inner_out:
            return replace(self, rank=min(size, self.inner_in, self.inner_out))
        wide = min((self.rank or 1) - 1 + size, least)
        inner_in, inner_out = self.inner_in or wide, self.inner_out or wide
        rank = self.rank or min(ceil(size / 2), inner_in, inner_out)
        return replace(self, rank=rank, inner_in=inner_in, inner_out=inner_out)

    def count(self, shapes: Shapes) -> Count:
        for d_out, d_in in shapes.values():
            self.check_fits(d_out, d_in)
        rank, inner_in, inner_out = (given(self, name) for name in ("rank", "inner_in", "inner_out"))
        total = len(shapes) * rank * (inner_in + inner_out)
        return Count(total, total)

    def check_fits(self, d_out: int, d_in: int) -> None:
        """Raises `UserError` if the subspaces are larger than a module's sides."""
        for key, wide, d in (("inner_in", self.inner_in, d_in), ("inner_out", self.inner_out, d_out)):
            require(
                wide is None or wide <= d,
                f"method.{key}={wide} is more than a module of {d_out} x {d_in} has: at most {d}",
            )

    def describe(self) -> str:
        return f"rank {self.rank} between {self.inner_out} and {self.inner_in}"


OPTIONS = LoRAMiniConfig
