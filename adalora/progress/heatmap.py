"""Heat maps of realised ranks, layer by module: in the terminal and as a figure (the paper's Figure 3)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.style import Style
from rich.table import Table
from rich.text import Text

from adalora.backbones.options import Model
from adalora.module_paths import target_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rank_table(model: Model, ranks: Mapping[str, int]) -> Table:
    """A terminal heat map with one row per layer and one column per module."""
    columns, rows = target_grid(model.targets, list(ranks))
    highest = max(ranks.values())
    table = Table(title=f"realised ranks ({sum(ranks.values())} in {len(ranks)} modules)", box=None)
    table.add_column("layer", justify="right")
    for column in columns:
        table.add_column(column, justify="right")
    for layer, row in enumerate(rows):
        cells = [_cell(ranks[path], highest) if path else Text("") for path in row]
        table.add_row(str(layer), *cells)
    return table


def _cell(rank: int, highest: int) -> Text:
    share = rank / max(1, highest)
    ground = tuple(round(255 + (to - 255) * share) for to in (33, 102, 172))
    ink = "black" if share < 0.5 else "white"
    return Text(f" {rank:>3} ", style=Style(color=ink, bgcolor="#{:02x}{:02x}{:02x}".format(*ground)))


def rank_figure(model: Model, ranks: Mapping[str, int], title: str, highest: int | None = None) -> "Figure":
    """Draw the heat map with matplotlib; `highest` is the rank of the darkest colour (default: of these ranks)."""
    import pandas as pd  # these imports take half a second

    from adalora.reporting.figures import heat_map

    columns, rows = target_grid(model.targets, list(ranks))
    values = [[ranks[name] if name else float("nan") for name in row] for row in rows]
    return heat_map(pd.DataFrame(values, columns=columns), title, highest)
