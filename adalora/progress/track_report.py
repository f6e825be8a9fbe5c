"""Log a report to wandb: sortable verdicts and tables, the page, and all files as an artifact."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from adalora.progress.tracking import Wandb
from adalora.reporting.frame import heads
from adalora.reporting.pages import Findings
from adalora.reporting.verdicts import VERDICTS


def track(findings: Findings, page: Path, files: Sequence[Path], warn: Callable[[str], None]) -> None:
    """Log one run of job type `report`, offline unless logged in; a failure is one warning.

    Args:
        findings: the content of the report.
        page: report.html.
        files: the tables' files; CSV files are also logged as tables.
        warn: called with one line for the user.
    """
    runs = heads(findings.frame)
    models, tasks = sorted({run.model["name"] for run in runs["result"]}), sorted(set(runs["task"]))
    about = {
        "name": "report", "group": "report", "job_type": "report", "tags": ["report", *models],
        "config": {"runs": len(runs), "models": models, "tasks": tasks, "skipped": list(findings.skipped)},
    }  # fmt: skip
    wandb = Wandb(page.parent, about, warn)
    counts = {name: sum(verdict.verdict == name for verdict in findings.verdicts) for name in VERDICTS}
    wandb.summarise({f"verdicts/{name.replace(' ', '_')}": count for name, count in counts.items()})
    for path in files:
        if path.suffix == ".csv":
            header, *rows = csv.reader(io.StringIO(path.read_text("utf-8")))
            if rows:
                wandb.table(0, f"tables/{path.stem}", header, rows)
    wandb.page("report", page)
    wandb.files("report", "report", [page, *files])
    wandb.finish(0)
