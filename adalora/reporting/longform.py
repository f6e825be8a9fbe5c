"""Machine-readable tables: one CSV line per cell."""

import csv
import io
import statistics
from collections.abc import Sequence

from adalora.reporting.cells import Column, Row, Section, commits, difference

FIELDS = (
    "model", "task", "metric", "method", "budget", "variant", "n", "seeds", "median_last", "min", "max", "std",
    "mean_last", "low_last", "high_last", "bca_low_last", "bca_high_last", "median_best", "mean_best", "low_best",
    "high_best", "paper", "difference", "paper_table", "comparable", "subset", "kept", "commits",
)  # fmt: skip
PAPER_FIELDS = ("paper", "difference", "paper_table")


def long_form(sections: Sequence[Section]) -> str:
    """Write one CSV line per cell, with four decimals."""
    compared = any(section.beside is not None for section in sections)
    fields = [name for name in FIELDS if compared or name not in PAPER_FIELDS]
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for section in sections:
        for row in section.rows:
            for column in section.columns:
                writer.writerow(long_line(section, row, column))
    return text.getvalue()


def long_line(section: Section, row: Row, column: Column) -> dict[str, object]:
    """The line of a cell; missing values are empty."""
    cell, theirs = row.cell(column), (section.beside or {}).get(row.key(column))
    line: dict[str, object] = {
        "model": section.model, "task": column.task, "metric": column.metric, "method": row.method,
        "budget": row.budget, "variant": row.variant, "comparable": section.comparable, "subset": section.subset,
        "difference": four(difference(cell, theirs)),
    }  # fmt: skip
    if theirs:
        line |= {"paper": f"{theirs.value:.2f}", "paper_table": theirs.table}
    if cell:
        line |= {
            "n": cell.n,
            "seeds": " ".join(map(str, sorted({run["seed"] for run in cell.runs}))),
            "median_last": four(cell.last), "median_best": four(cell.best),
            "kept": f"{statistics.median(run['parameters']['kept'] for run in cell.runs):.0f}",
            "commits": "; ".join(commits(cell.runs)),
        }  # fmt: skip
        for name, of in (("last", cell.of_last), ("best", cell.of_best)):
            if of is not None:
                low, high = of.interval or (None, None)
                line |= {f"mean_{name}": four(of.mean), f"low_{name}": four(low), f"high_{name}": four(high)}
        if cell.of_last and cell.of_last.bca:
            line |= dict(zip(("bca_low_last", "bca_high_last"), map(four, cell.of_last.bca), strict=True))
        if cell.range is not None:
            line |= {"min": four(cell.range[0]), "max": four(cell.range[1]), "std": four(cell.std)}
    return line


def four(value: float | None) -> str:
    """Format with four decimals; empty for None."""
    return "" if value is None else f"{value:.4f}"
