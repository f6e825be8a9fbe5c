"""Figures, drawn by matplotlib. Colour is never the only cue: points also differ in shape, lines in dashes."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adalora.files.writing import write_text

COLOURS = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#8C564B",
    "#7F7F7F",
]  # after Okabe and Ito
SHAPES = ["o", "s", "^", "D", "P", "v", "<", ">"]
DASHES = ["-", (0, (6, 2)), (0, (2, 2)), "-.", (0, (4, 4)), ":", (0, (10, 3)), (0, (3, 1))]
INK, PALE = "#010203", "#888888"  # of text, which follows the page's colour scheme; of lines
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "adalora", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": PALE, "axes.titlesize": 9, "axes.formatter.limits": (-3, 6), "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor", "axes.titlecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), PALE),
}  # fmt: skip
SCHEME = "<style>svg{color:#1a1a1a}@media screen and (prefers-color-scheme:dark){svg{color:#eaeaea}}</style>"
TICKS = (-10, -1, 0, 1, 10)  # points


@dataclass(frozen=True)
class Difference:
    """A line of a forest plot: a mean with its interval, and the pairs that it is of."""

    name: str
    mean: float
    interval: tuple[float, float] | None
    pairs: Sequence[float] = ()
    whole: bool = False  # whether it is the mean over the other lines


def svg(figure: Figure) -> str:
    """A figure as SVG. Nothing is cut off, however long a legend is."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    _, tag, rest = text.getvalue().partition("<svg")
    opening, end, body = rest.partition(">")
    return f"{tag}{opening}{end}{SCHEME}{body}".replace(INK, "currentColor")


def save(figure: Figure, path: Path, remedy: str) -> None:
    """Write a figure as SVG. Raises `UserError` with the remedy."""
    write_text(path, svg(figure), remedy)


def panels(count: int, width: float, height: float, shared: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of some panels, two a row; sizes in inches."""
    with matplotlib.rc_context(STYLE):
        columns = min(count, 2)
        rows = -(-count // columns)
        figure = Figure((width * columns, height * rows), layout="constrained" if count > 1 else None)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared)
    return figure, list(axes.flat)[:count]


def sign(names: Sequence[str], name: str) -> tuple[str, str, Any]:
    """Colour, shape and dashes of a name: the same in every figure with these names."""
    i = names.index(name)
    return COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)], DASHES[i % len(DASHES)]


def curves(points: Mapping[str, pd.DataFrame], names: Sequence[str], x: str, y: str) -> Figure:
    """Values over steps or minutes: a panel per title, a line per name with the seeds' range.

    Args:
        points: by title, rows of `name`, `x`, `mean`, `low` and `high`. A line of one row is a point.
        names: all names, in the order of their colours.
        x: the label of the horizontal axis.
        y: the label of the vertical axis.
    """
    figure, axes = panels(len(points), 3.4, 2.3)
    with matplotlib.rc_context(STYLE):
        for each, (title, rows) in zip(axes, points.items(), strict=True):
            for name, line in rows.groupby("name", sort=False):
                colour, shape, dash = sign(names, str(name))
                each.plot(line["x"], line["mean"], color=colour, linestyle=dash, label=name,
                          marker=shape if len(line) == 1 else None, markersize=5)  # fmt: skip
                if (line["high"] > line["low"]).any():
                    each.fill_between(line["x"], line["low"], line["high"], color=colour, alpha=0.18, linewidth=0)
            each.set(xlabel=x, ylabel=y, title=title if len(points) > 1 else "")
        legend(axes[0] if len(points) == 1 else figure)
    return figure


def rate_curves(scores: pd.DataFrame, others: pd.DataFrame, names: Sequence[str], labels: Sequence[str]) -> Figure:
    """Scores over learning rates with the seeds' range, and beside them another metric over the score, joined in the
    order of the rates.

    Args:
        scores: rows of `name`, `x`, `mean`, `low` and `high`.
        others: rows of `name`, `x` (the score) and `mean`.
        names: all names, in the order of their colours.
        labels: of the score and of the other metric.
    """
    figure, (left, right) = panels(2, 3.4, 2.5)
    with matplotlib.rc_context(STYLE):
        for axes, rows in ((left, scores), (right, others)):
            for name, line in rows.groupby("name", sort=False):
                colour, shape, dash = sign(names, str(name))
                axes.plot(line["x"], line["mean"], color=colour, linestyle=dash, marker=shape, markersize=4, label=name)
                if axes is left:
                    axes.vlines(line["x"], line["low"], line["high"], color=colour)
        left.set(xscale="log", xlabel="learning rate", ylabel=labels[0])
        right.set(xlabel=labels[0], ylabel=labels[1])
        legend(figure)
    return figure


def legend(parent: Axes | Figure) -> None:
    """A legend below."""
    if isinstance(parent, Figure):
        parent.legend(*parent.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    else:
        parent.legend(loc="upper left", bbox_to_anchor=(0, -0.22))


def against_size(points: pd.DataFrame, names: Sequence[str], y: str) -> Figure:
    """A metric over the kept parameters: a point per cell, with its interval; open signs are published numbers.

    Args:
        points: rows of `name`, `size`, `mean`, `low`, `high` and `paper`.
        names: all names, in the order of their colours and shapes.
        y: the label of the vertical axis.
    """
    figure, (axes,) = panels(1, 3.4, 2.3)
    with matplotlib.rc_context(STYLE):
        for name, cells in points.groupby("name", sort=False):
            colour, shape, _ = sign(names, str(name))
            axes.plot(cells["size"], cells["mean"], shape, color=colour, label=name)
            axes.vlines(cells["size"], cells["low"], cells["high"], color=colour)
            axes.plot(cells["size"], cells["paper"], shape, color=colour, markerfacecolor="none", markersize=8)
        axes.set_xscale("log")
        ticks = np.unique(np.geomspace(points["size"].min(), points["size"].max(), 3).round())
        axes.set_xticks(ticks, [f"{size / 1e6:.3g}M" if size >= 1e5 else f"{size / 1e3:.3g}K" for size in ticks])
        axes.xaxis.set_minor_formatter("")
        axes.margins(x=0.15)
        axes.set(xlabel="adapter parameters at the end", ylabel=y)
        legend(axes)
    return figure


def heat_map(ranks: pd.DataFrame, title: str = "", highest: float | None = None) -> Figure:
    """Ranks of the modules, with the number in each cell.

    Args:
        ranks: one row per layer, one column per kind of module; NaN where there is none.
        title: the title.
        highest: the rank of the darkest colour; by default the highest of these.
    """
    highest = float(np.nanmax(ranks)) if highest is None else highest
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False, "axes.spines.bottom": False}):
        figure = Figure(figsize=(1.0 + 0.62 * len(ranks.columns), 0.6 + 0.24 * len(ranks)))
        axes = figure.subplots()
        axes.imshow(ranks, cmap="Blues", vmin=0, vmax=max(1, highest), aspect="auto", origin="lower")
        axes.set_xticks(range(len(ranks.columns)), ranks.columns, rotation=30, ha="right")
        axes.set_yticks(range(len(ranks)), ranks.index.map(str))
        axes.set(ylabel="layer", title=title)
        for (y, x), rank in np.ndenumerate(ranks):
            if not np.isnan(rank):
                ink = "white" if rank > highest / 2 else "black"
                axes.text(x, y, f"{rank:.3g}", ha="center", va="center", color=ink, fontsize=8)
    return figure


def forest(lines: Mapping[str, Sequence[Difference]], margin: float | None = None) -> Figure:
    """Differences with their intervals: a panel per title, a line per task.

    Without a margin they are in points, and beyond one point the scale is logarithmic: a collapsed run costs tens of
    points, most differences are below five. With one the scale is linear, and differences within it are shaded.
    """
    height = max(2.5, 0.18 * max(map(len, lines.values())))
    figure, axes = panels(len(lines), 3.6, height, shared=True)
    with matplotlib.rc_context(STYLE):
        for each, (title, differences) in zip(axes, lines.items(), strict=True):
            for y, line in enumerate(differences):
                low, high = line.interval or (line.mean, line.mean)
                # single pairs stand below their interval, which would cover them
                each.plot(line.pairs, [y + 0.3] * len(line.pairs), "o", color=COLOURS[0], alpha=0.4, markersize=3)
                each.plot([low, high], [y, y], color=COLOURS[0], linewidth=3 if line.whole else 1.5)
                each.plot(line.mean, y, "D" if line.whole else "o", color=COLOURS[0])
            each.set_yticks(range(len(differences)), [line.name for line in differences])
            each.axvline(0, color=PALE, linewidth=0.8)
            if margin is None:
                each.set_xscale("symlog", linthresh=1)
                each.set_xticks(TICKS, [f"{tick:+d}" if tick else "0" for tick in TICKS])
            else:
                each.axvspan(-margin, margin, color=PALE, alpha=0.2, linewidth=0)
            each.set_title(title)
        axes[0].invert_yaxis()
    return figure
