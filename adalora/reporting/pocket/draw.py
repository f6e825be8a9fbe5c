"""The two figures of the pocket reproduction, as SVG."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from adalora.reporting.pocket.numbers import METHODS, TASKS, Pocket

COLOURS = {"AdaLoRA": "#0072B2", "SVD-LoRA": "#009E73", "LoRA": "#D55E00"}  # Okabe and Ito
LINES = {"AdaLoRA": "-", "SVD-LoRA": "--", "LoRA": ":"}
BELOW = 0.3  # distance of single seeds from their interval, which would cover them
TICKS = (-10, -1, 0, 1, 10)  # points
STYLE: dict[Any, Any] = {"svg.hashsalt": "pocket", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw_differences(found: Pocket, path: Path) -> None:
    """Draw AdaLoRA minus LoRA and minus SVD-LoRA, per task and over all, with 95 % intervals.

    Beyond one point the scale is logarithmic: a collapsed run costs tens of points, most differences are below five.
    """
    panels = {"LoRA": "pocket-lora", "SVD-LoRA": "pocket-allocation"}
    primary = dict(zip(panels, found.verdicts["pocket-primary"].parts, strict=True))
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(7.2, 2.5), layout="constrained")
        axes = picture.subplots(1, 2, sharex=True, sharey=True)
        for each, (other, claim) in zip(axes, panels.items(), strict=True):
            parts = dict(zip(TASKS.values(), found.verdicts[claim].parts, strict=True))
            for place, task in enumerate(TASKS):
                pairs = found.differences("AdaLoRA", other, task)
                each.plot(pairs, [place + BELOW] * len(pairs), "o", color=COLOURS["AdaLoRA"], alpha=0.4, markersize=3)
            for place, (name, part) in enumerate([*parts.items(), ("mean of the tasks", primary[other])]):
                if part.found is None:
                    continue
                whole = name not in parts
                low, high = part.found.interval or (part.found.mean, part.found.mean)
                each.plot([low, high], [place, place], color=COLOURS["AdaLoRA"], linewidth=3 if whole else 1.5)
                each.plot(part.found.mean, place, "D" if whole else "o", color=COLOURS["AdaLoRA"])
            each.set_yticks(range(len(parts) + 1), [*parts, "mean of the tasks"])
            each.axvline(0, color="#888", linewidth=0.8)
            each.set_xscale("symlog", linthresh=1)
            each.set_xticks(TICKS, [f"{tick:+d}" if tick else "0" for tick in TICKS])
            each.set_title(f"AdaLoRA - {other}, points", fontsize=9)
        axes[0].invert_yaxis()
        picture.savefig(path, metadata={"Date": None})


def draw_time(found: Pocket, path: Path) -> None:
    """Draw the mean score of every evaluation over minutes, one panel per task."""
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(7.2, 4.4), layout="constrained")
        for axes, (task, title) in zip(picture.subplots(2, 2).flat, TASKS.items(), strict=True):
            for method in METHODS:
                steps, scores = zip(*found.curve(method, task), strict=True)
                minutes = [step * found.step_seconds(method, task) / 60 for step in steps]
                axes.plot(minutes, scores, LINES[method], marker=".", color=COLOURS[method], label=method)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("minutes")
        picture.axes[0].legend(frameon=False)
        picture.savefig(path, metadata={"Date": None})
