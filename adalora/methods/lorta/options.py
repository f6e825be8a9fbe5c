"""Options of LoRTA."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from adalora.methods.options import Count, RankConfig, Shapes, given
from adalora.module_paths import layer_of
from adalora.options import at_least, not_negative, one_of, option, positive, require, share


class Grid(NamedTuple):
    """The layout of the tensor: d, L, M, and the first slice of every module."""

    d: int
    layers: int
    matrices: int
    first: dict[str, int]


@dataclass
class LoRTAConfig(RankConfig):
    """All updates as one CP tensor of rank `rank`. With `modules` null it covers the square ones: the attention's."""

    name: str = "lorta"
    modules: list[str] | None = option(
        None,
        help="short names of model.targets; null: the square ones, so attention's (as published); others are split "
        "into squares of the smallest side",
    )
    rank: int | None = option(None, at_least(1), help="r of the CP form, for the whole model; null: from the budget")
    heads: int | None = option(
        None, at_least(1), help="H, must divide the side of the squares; null: the backbone's attention heads"
    )
    matrices: int | None = option(
        None,
        at_least(1),
        help="M, squares in each layer of the tensor; null: those of an attention block (4: q, k, v, o; 2 where keys "
        "and values have fewer heads), or with modules all squares of a layer",
    )
    head_side: str = option(
        "as_released",
        one_of("as_released", "output_for_qkv"),
        help="side of an update along which the heads lie. as_released: the input's, for all; output_for_qkv: the "
        "output's for q, k, v (ours, after the paper's tensor)",
    )
    alpha: float = option(8.0, positive, help="released code")
    rank_stabilised: bool = option(False, help="true: alpha / sqrt(rank) instead of alpha / rank")
    dropout: float = option(0.0, share, help="on the input")
    init_scale: float = option(
        0.0, not_negative, help="s: C ~ U(-b, b), b^2 = 6 / ((1 + 5 s^2) r), so more is smaller (released code)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.head_side == "as_released" or (self.modules is None and self.matrices in (None, 4)),
            f"method.head_side={self.head_side} means the first three of q, k, v and output projection: "
            "it needs method.modules=null and method.matrices=null",
        )

    def with_backbone(self, backbone: Any) -> Self:
        """`heads` defaults to the backbone's."""
        return replace(self, heads=backbone.num_attention_heads) if self.heads is None else self

    def count(self, shapes: Shapes) -> Count:
        grid, heads = self.grid(shapes), given(self, "heads")
        total = given(self, "rank") * (grid.d + grid.d // heads + heads + grid.layers + grid.matrices)
        return Count(total, total)

    def select(self, shapes: Shapes) -> Shapes:
        """The square modules, unless `modules` is set.

        Raises:
            UserError: there are none.
        """
        if self.modules is not None:
            return shapes
        square = {path: shape for path, shape in shapes.items() if shape[0] == shape[1]}
        require(
            bool(square),
            "method=lorta adapts the square modules, but there are none: choose others with method.modules",
        )
        return square

    def grid(self, shapes: Shapes) -> Grid:
        """Assign every module its place in the tensor.

        Raises:
            UserError: the modules' sides, `heads` and `matrices` are incompatible.
        """
        shapes = self.select(shapes)
        d = min(map(min, shapes.values()))
        first, slices = {}, 0
        for path, (d_out, d_in) in shapes.items():
            require(
                d_out % d == d_in % d == 0,
                f"method=lorta can't split {path} of {d_out} x {d_in} into squares of {d}, the smallest side: "
                "choose others in method.modules",
            )
            first[path] = slices
            slices += (d_out // d) * (d_in // d)
        heads = given(self, "heads")
        require(d % heads == 0, f"method.heads={heads} doesn't divide {d}: choose a divisor")
        squares: Counter[tuple[str, int]] = Counter()  # by layer of the backbone
        for path, (d_out, d_in) in shapes.items():
            squares[layer_of(path)] += (d_out // d) * (d_in // d)
        block = 4 if all(count % 4 == 0 for count in squares.values()) else max(squares.values())
        a_layer = block if self.modules is None else slices * len(self.modules) // len(shapes)
        matrices = self.matrices or a_layer
        require(
            self.head_side == "as_released" or matrices == 4,
            f"method.head_side={self.head_side} means the first three of q, k, v and output projection, but this "
            f"backbone has {matrices} square modules in an attention block",
        )
        require(
            slices % matrices == 0,
            f"method.matrices={matrices} doesn't divide the {slices} squares of {d} x {d}: choose a divisor",
        )
        if self.matrices is None:
            for (stack, layer), count in squares.items():
                require(
                    count % matrices == 0,
                    f"method=lorta takes {matrices} squares of {d} x {d} for a layer, but {stack}.{layer} has {count}: "
                    "set method.matrices, or choose modules with method.modules",
                )
        return Grid(d, slices // matrices, matrices, first)

    def describe(self) -> str:
        return f"CP rank {self.rank}"


OPTIONS = LoRTAConfig
