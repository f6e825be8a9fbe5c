"""Heat maps of realised ranks, layer by map: in the terminal and as a figure (the paper's Figure 3)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.style import Style
from rich.table import Table
from rich.text import Text

from adalora.backbones.options import Model
from adalora.files import writing
from adalora.paths import target_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# margins in inches; matplotlib's automatic layout takes 0.4 s
LEFT, RIGHT, BOTTOM, TOP = 1.0, 0.9, 0.9, 0.4


def rank_table(model: Model, ranks: Mapping[str, int]) -> Table:
    """A terminal heat map with one row per layer and one column per map."""
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


def save_heatmap(path: Path, model: Model, ranks: Mapping[str, int], title: str) -> None:
    """Save the heat map as a PNG.

    Raises:
        UserError: it can't be written.
    """
    figure = rank_figure(model, ranks, title)
    with writing(path):
        figure.savefig(path, dpi=120)


def rank_figure(model: Model, ranks: Mapping[str, int], title: str, highest: int | None = None) -> "Figure":
    """Draw the heat map with matplotlib; `highest` is the rank of the darkest colour (default: of these ranks)."""
    from matplotlib.figure import Figure  # import takes half a second

    columns, rows = target_grid(model.targets, list(ranks))
    highest = max(ranks.values()) if highest is None else highest
    values = [[ranks[name] if name else float("nan") for name in row] for row in rows]
    width, height = 0.8 * len(columns), 0.4 * len(rows)  # size of the grid in inches
    whole = (LEFT + width + RIGHT, BOTTOM + height + TOP)
    figure = Figure(figsize=whole)
    axes = figure.add_axes((LEFT / whole[0], BOTTOM / whole[1], width / whole[0], height / whole[1]))
    scale = figure.add_axes(((LEFT + width + 0.15) / whole[0], BOTTOM / whole[1], 0.12 / whole[0], height / whole[1]))
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=max(1, highest), aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), [str(layer) for layer in range(len(rows))])
    axes.set_ylabel("layer")
    axes.set_title(title, fontsize=9)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value == value:
                ink = "white" if value > highest / 2 else "black"
                axes.text(x, y, f"{value:g}", ha="center", va="center", color=ink, fontsize=8)
    figure.colorbar(image, cax=scale, label="rank")
    return figure
