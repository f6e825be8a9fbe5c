"""Options of MoRA."""

import math
from dataclasses import dataclass

from adalora.methods.options import Count, RankConfig, Shapes, given
from adalora.options import at_least, one_of, option, require, share

TYPES = (1, 6)


@dataclass
class MoRAConfig(RankConfig):
    """W x + f_dec(M f_comp(x)), with M square and about as many entries as LoRA of rank `rank`."""

    name: str = "mora"
    rank: int | None = option(None, at_least(1), help="rank of a LoRA with as many parameters; null: from the budget")
    type: int = option(
        6, one_of(*TYPES), help="6: rotation, for small ranks; 1: sharing, for large ones (authors' README)"
    )
    narrowing_type: int | None = option(
        None,
        one_of(*TYPES),
        help="type for modules with d_in > d_out; null: the same. 1 is ours: type 6 ignores most of their inputs "
        "(72 % in the FFN's output)",
    )
    dropout: float = option(0.0, share, help="dropout on the input of f_comp")

    def count(self, shapes: Shapes) -> Count:
        total = sum(self.side(*shape) ** 2 for shape in shapes.values())
        return Count(total, total)

    def type_of(self, d_out: int, d_in: int) -> int:
        """The type, 1 or 6, for a module of this shape."""
        return self.narrowing_type or self.type if d_in > d_out else self.type

    def side(self, d_out: int, d_in: int) -> int:
        """s: the rounded square root of r (d_in + d_out), at most the module's smaller side, and even for type 6."""
        s = min(int(math.sqrt((d_in + d_out) * given(self, "rank")) + 0.5), d_in, d_out)
        if self.type_of(d_out, d_in) == 6:
            s -= s % 2
            require(s > 0, f"a module of {d_out} x {d_in} is too small for MoRA's rotation: use method.type=1")
        return s

    def describe(self) -> str:
        return f"type {self.type}, the size of LoRA's rank {self.rank}"


OPTIONS = MoRAConfig
