"""Write the pocket reproduction's README.md, figures, tables and report from its records."""

import statistics
from collections.abc import Sequence
from importlib.resources import files
from itertools import combinations
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from adalora.files import READ_ONLY, write_text, writing
from adalora.places import PAPER, POCKET
from adalora.reporting.cells import commits
from adalora.reporting.claimpage import probability, span
from adalora.reporting.claims import read_claims
from adalora.reporting.findings import gather
from adalora.reporting.pocket.draw import draw_differences, draw_time
from adalora.reporting.pocket.numbers import CONSTANT, METHODS, TASKS, Pocket, cell_of, in_words, pocket, tuning
from adalora.reporting.report.write import write_report
from adalora.reporting.results import read_results
from adalora.reporting.tables import signed, write_tables


def write_pages(planned: Sequence[int], folder: Path = POCKET) -> tuple[list[Path], list[str]]:
    """Write all pages from the records in `folder`; those with verdicts only once all planned seeds are complete.

    Args:
        planned: the seeds of the counted runs.

    Returns:
        The files, and warnings.

    Raises:
        UserError: a file can't be read or written.
    """
    found, text, lines = page(planned, folder)
    written = [folder / "README.md"]
    write_text(written[0], text, READ_ONLY)
    if not found.seeds:
        return written, lines
    written += [folder / "differences.svg", folder / "time.svg"]
    with writing(folder, READ_ONLY):
        draw_differences(found, written[1])
        draw_time(found, written[2])
    findings = gather(folder / "runs")
    tables, told = write_tables(findings, folder, only=("packaged", "claims") if found.complete else ("packaged",))
    written += tables
    if found.complete:
        written.append(write_report(findings, folder)[0])
    return written, [*lines, *told]


def page(planned: Sequence[int], folder: Path = POCKET) -> tuple[Pocket, str, list[str]]:
    """The numbers, the text of README.md, and a line for each invalid record."""
    read = [records(folder / name) for name in ("runs", "tuning", "lower-rates")]
    runs, tuned, repeated = (good for good, _ in read)
    claims = read_claims(folder, PAPER)
    found = pocket(runs, planned, claims)
    collapsed = {task for _, task in found.collapsed()}
    lower = pocket(repeated, planned, claims, {task: title for task, title in TASKS.items() if task in collapsed})
    mixed = pocket([*repeated, *(run for run in runs if cell_of(run)[1] not in collapsed)], planned, claims)
    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"signed": signed, "span": span, "p": probability, "mean": statistics.mean,
                            "median": statistics.median, "std": statistics.stdev}  # fmt: skip
    template = files("adalora.reporting.pocket").joinpath("page.md.j2").read_text("utf-8")
    text = environment.from_string(template).render(
        found=found, lower=lower, mixed=mixed, tuning=tuning(tuned), tuned=tuned, runs=runs, repeated=repeated,
        TASKS=TASKS, METHODS=METHODS, CONSTANT=CONSTANT, commits=commits, in_words=in_words,
        pairs=lambda names: list(combinations(names, 2)),
        hours=lambda group: sum(run["seconds"] for run in group) / 3600,
    )  # fmt: skip
    return found, text.rstrip() + "\n", [f"skipped {line}" for _, skipped in read for line in skipped]


def records(folder: Path) -> tuple[list[dict[str, object]], list[str]]:
    """Read the records in a folder, which may not exist yet."""
    return read_results(folder) if folder.is_dir() else ([], [])
