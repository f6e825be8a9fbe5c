"""Options of MELoRA."""

from dataclasses import dataclass

from adalora.methods.options import Count, RankConfig, Shapes
from adalora.options import at_least, option, positive, require, share


@dataclass
class MELoRAConfig(RankConfig):
    """W x + (alpha / rank) blockdiag(B_i A_i) x, with `minis` blocks."""

    name: str = "melora"
    rank: int | None = option(
        None, at_least(1), help="rank of a mini; the update's rank is up to minis times that; null: from the budget"
    )
    minis: int = option(
        4, at_least(1), help="n, must divide both sides of every module; costs no parameters (ours; released script: 2)"
    )
    alpha: float = option(16.0, positive, help="released GLUE script")
    dropout: float = option(0.0, share, help="dropout on the input; released GLUE script: 0.05, ours as for LoRA")

    def count(self, shapes: Shapes) -> Count:
        for d_out, d_in in shapes.values():
            self.check_divides(d_out, d_in)
        return super().count(shapes)

    def check_divides(self, d_out: int, d_in: int) -> None:
        """Raises `UserError` unless n divides both sides of a module."""
        require(
            d_out % self.minis == d_in % self.minis == 0,
            f"method.minis={self.minis} doesn't divide both sides of a module of {d_out} x {d_in}: "
            "choose a common divisor",
        )

    def describe(self) -> str:
        return f"{self.minis} minis of rank {self.rank}"


OPTIONS = MELoRAConfig
