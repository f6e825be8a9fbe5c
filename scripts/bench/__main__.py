"""`make bench`: measure, keep the figures in results/bench, and write docs/performance.md from them.

python -m scripts.bench                              everything, under ten minutes on two cores
python -m scripts.bench step --rounds 12             one part, longer
python -m scripts.bench step --against CHECKOUT      beside another version of this suite
"""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from adalora.errors import UserError
from adalora.files import write_text
from adalora.places import ROOT
from scripts.bench import step
from scripts.options import Parser, exit_code

FIGURES = ROOT / "results" / "bench"
PARTS = ("step",)


def main() -> int:
    """Measure the parts that are asked for."""
    parser = Parser(description="Measure this suite beside its peers, side by side.", allow_abbrev=False)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=4, help="batches that every side trains on (%(default)s)")
    parser.add_argument("--rows", type=int, default=32, help="rows of a batch (%(default)s)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16", help="(%(default)s)")
    parser.add_argument("--against", type=Path, help="another checkout of this suite to measure beside this one")
    parser.add_argument("--out", type=Path, default=FIGURES, help="folder for the figures (results/bench)")
    args = parser.parse_args()
    unknown = sorted(set(args.parts) - set(PARTS))
    if unknown:
        raise UserError(f"there is no part {unknown[0]}: choose from {', '.join(PARTS)}")
    measures = {"step": lambda: step.measure(args.rounds, args.rows, args.precision, args.against)}
    args.out.mkdir(parents=True, exist_ok=True)
    for part in args.parts or PARTS:
        figures = measures[part]()
        write_text(args.out / f"{part}.json", json.dumps(figures, indent=1) + "\n")
        Console(highlight=False).print(summary(figures))
    return 0


def summary(figures: dict[str, Any]) -> Table:
    """The step's figures for the terminal."""
    table = Table(box=None)
    for column in ("side", "tokens/s", "median s/step", "time / AdaLoRA's", "operations", "MiB a step"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for group in ("own", "peers"):
        sides = figures[group]
        first = sides["AdaLoRA"]
        for name, side in sides.items():
            seconds = sorted(entry["seconds"] for entry in side["steps"])
            ratio = f"{step.times(side, first):.3f}" if len(side["steps"]) == len(first["steps"]) else ""
            table.add_row(
                name, f"{step.rate(side):,.0f}", f"{seconds[len(seconds) // 2]:.2f}", ratio, f"{side['operations']:,}",
                f"{side['memory_mib']:,}",
            )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(exit_code(main))
