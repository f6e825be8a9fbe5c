"""Print the hours of the published tables on common GPUs, for docs/gpu.md:

python -m scripts.hours
"""

import sys

from scripts.options import Parser, exit_code

TABLES = ("glue", "squad", "summarization")


def hours() -> list[str]:
    """A Markdown table: hours of one seed of every cell, by table, GPU and precision, without evaluations."""
    from adalora.planning.plan import make_plan
    from adalora.planning.speed import devices, step_speed
    from adalora.sweep.cells import cells_of
    from adalora.sweep.settings import published

    lines = ["| GPU | precision | `glue` | `squad` | `summarization` |", "|---|---|---:|---:|---:|"]
    columns = [(gpu, each) for gpu in devices().gpus for each in ("fp32", "bf16" if "bf16" in gpu.peak else "fp16")]
    plans = {
        what: [make_plan(cell.config, cell.config.task.rows) for cell in cells_of(published(what)[0], [1], [])[0]]
        for what in TABLES
    }
    for gpu, precision in columns:
        row = [gpu.name, precision]
        for what in TABLES:
            speeds = [(step_speed(plan, gpu, precision), plan.total_steps) for plan in plans[what]]
            known = [(speed, steps) for speed, steps in speeds if speed is not None]
            seconds = sum(speed.seconds * steps for speed, steps in known)
            row.append(f"{seconds / 3600:,.0f} {weakest({speed.basis for speed, _ in known})}")
        lines.append(f"| {' | '.join(row)} |")
    return lines


def weakest(bases: set[str]) -> str:
    """The weakest of some bases."""
    return next(basis for basis in ("guessed", "scaled", "measured") if basis in bases)


def main() -> None:
    """Print the table."""
    Parser(description=__doc__, allow_abbrev=False).parse_args()
    print("\n".join(hours()))


if __name__ == "__main__":
    sys.exit(exit_code(main))
