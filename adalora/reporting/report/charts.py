"""Vega-Lite figures as SVG, rendered by vl-convert without a browser. They need no script, can be printed, and follow
dark mode.

Each function takes the rows of one small figure. Colour is never the only cue: points also differ in shape, lines in
dashes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import vl_convert

VEGA_LITE = "6.4"
WIDTH, HEIGHT = 270, 180  # pixels; fits on a phone without scaling
COLOURS = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#8C564B",
    "#7F7F7F",
]  # the first ones are Okabe and Ito's
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left", "triangle-right"]
DASHES = [[1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4], [1, 3], [10, 3], [3, 1]]
CONFIG = {
    "background": None,
    "padding": {"left": 12, "top": 5, "right": 14, "bottom": 8},
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axisY": {"minExtent": 34},
    "axis": {"gridOpacity": 0.25, "gridColor": "#888", "domainColor": "#888", "tickColor": "#888", "labelFontSize": 11,
             "titleFontSize": 11, "titleFontWeight": "normal"},
    "legend": {"orient": "bottom", "columns": 1, "title": None, "labelFontSize": 11, "labelLimit": 250,
               "symbolStrokeWidth": 2},
}  # fmt: skip
Row = Mapping[str, Any]


def svg(spec: Mapping[str, Any], label: str) -> str:
    """Render a figure as SVG, with an alternative text."""
    text = vl_convert.vegalite_to_svg({"config": CONFIG, **spec}, vl_version=VEGA_LITE)
    width, height = re.findall(r'<svg[^>]* (?:width|height)="([\d.]+)"[^>]* (?:width|height)="([\d.]+)"', text)[0]
    body = compact(re.sub(r"^<svg[^>]*>", "", text))
    escaped = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{CONFIG["font"]}" font-size="11px" role="img" aria-label="{escaped}">{body}'
    )


def compact(body: str) -> str:
    """Strip Vega's SVG to what is needed, as a page has hundreds. Text colour comes from the style sheet."""
    # Vega labels each mark for screen readers; the figure has one label
    dropped = (
        r"class|pointer-events|role|aria-\w+|font-family|xmlns:xlink", r'font-size="11px"', r'font-weight="normal"',
        r'(?:stroke-)?(?:opacity|width)="1"', r'fill="#000"', r'display="none"',
        r'transform="translate\(0,0\)"', r'stroke-miterlimit="10"',
    )  # fmt: skip
    names, *pairs = dropped
    body = re.sub(rf' (?:(?:{names})="[^"]*"|{"|".join(pairs)})(?=[ />])', "", body)
    body = re.sub(r'<path d="(?:M0,0h0v0h0Z)?"/>', "", body)
    body = re.sub(r"-?\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), body)
    return re.sub(
        r"rgb\((\d+), (\d+), (\d+)\)", lambda rgb: "#{:02x}{:02x}{:02x}".format(*map(int, rgb.groups())), body
    )


def sign(rows: Sequence[Row], names: Sequence[str], signs: Sequence[Any], **legend: Any) -> dict[str, Any]:
    """Encode `name` by its index among all `names`, so that it looks the same in every figure."""
    shown = [name for name in names if any(row["name"] == name for row in rows)]
    scale = {"domain": shown, "range": [signs[names.index(name) % len(signs)] for name in shown]}
    return {"field": "name", "type": "nominal", "scale": scale} | ({"legend": legend} if legend else {})


def curves(rows: Sequence[Row], names: Sequence[str], title: str, label: str) -> str:
    """A metric over steps: one line per name, with the seeds' range (`step`, `name`, `mean`, `low`, `high`)."""
    colour = sign(rows, names, COLOURS, symbolType="stroke", symbolOpacity=1, symbolSize=300)
    dash = sign(rows, names, DASHES)
    x = {"field": "step", "type": "quantitative", "title": "step", "axis": {"tickCount": 5}}
    form = {"format": ".1e"} if max(row["high"] for row in rows) < 0.01 else {}
    y = {"type": "quantitative", "title": title, "scale": {"zero": False}, "axis": form}
    return svg(
        {
            "width": WIDTH, "height": HEIGHT, "data": {"values": [dict(row) for row in rows]},
            "layer": [
                {"mark": {"type": "area", "opacity": 0.18},
                 "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour}},
                {"mark": {"type": "line", "strokeWidth": 2},
                 "encoding": {"x": x, "y": y | {"field": "mean"}, "color": colour, "strokeDash": dash}},
            ],
        },
        label,
    )  # fmt: skip


def against_size(rows: Sequence[Row], names: Sequence[str], title: str, label: str) -> str:
    """A metric over the kept parameters: one point per cell, with its interval (`size`, `name`, `mean`, `low`, `high`,
    `kind`: ours or paper)."""
    colour, shape = sign(rows, names, COLOURS), sign(rows, names, SHAPES)
    x = {"field": "size", "type": "quantitative", "title": "adapter parameters at the end",
         "scale": {"type": "log", "nice": False, "padding": 20},
         "axis": {"format": ".3~s", "tickCount": 4}}  # fmt: skip
    y = {"type": "quantitative", "title": title, "scale": {"zero": False}}
    ours = {"filter": "datum.kind == 'ours'"}
    return svg(
        {
            "width": WIDTH, "height": HEIGHT, "data": {"values": [dict(row) for row in rows]},
            "layer": [
                {"transform": [ours, {"filter": "isValid(datum.low)"}], "mark": {"type": "rule", "strokeWidth": 2},
                 "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour}},
                {"transform": [ours], "mark": {"type": "point", "filled": True, "opacity": 1, "size": 70},
                 "encoding": {"x": x, "y": y | {"field": "mean"}, "color": colour, "shape": shape}},
                {"transform": [{"filter": "datum.kind == 'paper'"}],
                 "mark": {"type": "point", "filled": False, "opacity": 1, "size": 90, "strokeWidth": 2},
                 "encoding": {"x": x, "y": y | {"field": "mean"}, "color": colour, "shape": shape}},
            ],
        },
        label,
    )  # fmt: skip


def heat_map(rows: Sequence[Row], maps: Sequence[str], label: str) -> str:
    """Mean realised ranks, layer by map, with the number in each cell (`layer`, `map`, `rank`)."""
    highest = max(row["rank"] for row in rows)
    x = {"field": "map", "type": "ordinal", "sort": list(maps), "title": None, "axis": {"labelAngle": -40}}
    y = {"field": "layer", "type": "ordinal", "title": "layer", "sort": "descending"}
    ink = {"condition": {"test": f"datum.rank > {highest / 2}", "value": "white"}, "value": "black"}
    layers = len({row["layer"] for row in rows})
    return svg(
        {
            "width": WIDTH, "height": 22 * layers, "data": {"values": [dict(row) for row in rows]},
            "layer": [
                {"mark": "rect", "encoding": {"x": x, "y": y, "color": {
                    "field": "rank", "type": "quantitative", "legend": None,
                    "scale": {"domain": [0, highest], "range": ["#f7fbff", "#2166ac"]}}}},
                {"mark": {"type": "text", "fontSize": 10},
                 "encoding": {"x": x, "y": y, "text": {"field": "rank", "format": ".3~g"}, "color": ink}},
            ],
        },
        label,
    )  # fmt: skip
