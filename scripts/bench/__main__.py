"""`make bench`: measure, save the figures in results/bench, and write docs/performance.md from them.

python -m scripts.bench                              everything
python -m scripts.bench step --rounds 12             one part, longer
python -m scripts.bench step --against CHECKOUT      against another version of this suite
python -m scripts.bench page                         only the page, from saved figures
"""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from adalora.errors import UserError
from adalora.files.writing import write_text
from adalora.paths import ROOT
from adalora.records.provenance import commit, hardware, versions
from scripts.bench import checkpointing, evaluation, growth, plain, startup, step, summarization
from scripts.bench.page import write_page
from scripts.options import Parser, exit_code

FIGURES = ROOT / "results" / "bench"


def main() -> None:
    """Measure the requested parts, and write the page."""
    parser = Parser(description="Benchmark this suite against its peers, side by side.", allow_abbrev=False)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="some of step, startup, evaluation, summarization, growth, plain, checkpointing, page (default: all)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements of every side (%(default)s)")
    parser.add_argument("--rows", type=int, default=32, help="rows of a training batch (%(default)s)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16", help="(%(default)s)")
    parser.add_argument("--against", type=Path, help="another checkout of this suite to measure beside this one")
    parser.add_argument(
        "--out", type=Path, help="folder for the figures (default results/bench/MACHINE, which also writes the page)"
    )
    args = parser.parse_args()
    against = args.against and args.against.expanduser()
    fewer = max(1, args.rounds * 2 // 3)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "startup": lambda: startup.measure(fewer),
        "evaluation": lambda: evaluation.measure(rows=min(277, 32 * args.rounds), repeats=max(1, args.rounds // 2)),
        "summarization": lambda: summarization.measure(fewer, args.precision),
        "growth": lambda: growth.measure(fewer),
        "plain": lambda: plain.measure(5 * args.rounds, args.precision),
        "checkpointing": lambda: checkpointing.measure(args.rounds, args.precision),
        "step": lambda: step.measure(args.rounds, args.rows, args.precision, against),
    }
    parts = args.parts or [*measures, "page"]
    unknown = sorted(set(parts) - {*measures, "page"})
    if unknown:
        raise UserError(f"there is no part {unknown[0]}: choose from {', '.join(measures)}, page")
    machine = hardware(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    out = args.out.expanduser() if args.out else FIGURES / re.sub(r"\W+", "-", machine["name"]).strip("-").lower()
    out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    for part in parts:
        if part in measures:
            start = time.monotonic()
            facts = {"machine": machine, "versions": versions(), "commit": commit()}
            name = f"{part}-{args.precision}" if part in ("step", "plain") else part
            write_text(out / f"{name}.json", json.dumps(facts | measures[part](), indent=1) + "\n")
            console.print(f"{part}: {time.monotonic() - start:.0f} s")
    if args.out is None:
        console.print(f"wrote {write_page(FIGURES).relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
