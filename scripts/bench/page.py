"""Write docs/performance.md and its chart from the figures in results/bench."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from adalora.files.writing import write_text
from adalora.paths import ROOT
from adalora.reporting.filling import fill
from scripts.bench import evaluation, growth, startup, step, summarization

PAGE, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.png"
Figures = dict[str, dict[str, Any]]


def write_page(folder: Path) -> Path:
    """Write both, and return the page."""
    machines = read_all(folder)
    draw(machines)
    write_text(PAGE, rendered(machines))
    return PAGE


def rendered(machines: dict[str, Figures]) -> str:
    """The page."""
    helpers = {
        "step": step, "startup": startup, "evaluation": evaluation, "growth": growth,
        "summarization": summarization, "median": median, "PEFT_RANDOM": step.RANDOM, "BEFORE": step.BEFORE,
    }  # fmt: skip
    return fill(Path(__file__).parent / "performance.md.j2", machines=machines, **helpers)


def read_all(folder: Path) -> dict[str, Figures]:
    """Read the figures of every machine, by part (and precision, for steps)."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    return {
        path.name: {path.stem: json.loads(path.read_text()) for path in sorted(path.glob("*.json"))} for path in folders
    }


def draw(machines: dict[str, Figures]) -> None:
    """Draw real tokens per second of every side, one panel per measurement of steps."""
    parts = [
        (part["machine"]["name"], name, part)
        for figures in machines.values()
        for name, part in figures.items()
        if name.startswith("step-")
    ]
    picture = Figure(figsize=(5 * len(parts), 3.2), layout="constrained")
    for number, (machine, name, figures) in enumerate(parts, 1):
        axes = picture.add_subplot(1, len(parts), number)
        sides = {**figures["own"], **{side: v for side, v in figures["peers"].items() if side != "AdaLoRA"}}
        rates = {side: step.rate(values) for side, values in sides.items()}
        bars = axes.barh(
            list(rates), list(rates.values()), color=["#4c72b0" if "PEFT" not in s else "#bbbbbb" for s in rates]
        )
        axes.bar_label(bars, fmt="{:,.0f}", padding=2)
        axes.margins(x=0.18)
        axes.invert_yaxis()
        axes.set_title(f"{machine}\n{name.removeprefix('step-')}, real tokens a second", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(PICTURE, dpi=110, bbox_inches="tight", metadata={"Software": None})
