"""Print one table at the end of a multirun. Heavy imports happen only then.

Jobs may run in other processes or on other machines, so each writes its outcome to a file in its folder of the sweep,
which the starting process reads.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from adalora.files.reading import Damaged, read_json
from adalora.files.writing import write_json

OUTCOME = "outcome.json"


def note_job(folder: str, overrides: Sequence[str], outcome: dict[str, Any]) -> None:
    """Write a job's outcome: a result, a plan, `error`, or `busy` if another process is running it."""
    write_json(Path(folder) / OUTCOME, {"overrides": list(overrides), **outcome})


def read_outcome(folder: Path) -> dict[str, Any]:
    """Read a job's outcome; an unreadable one is an `error`."""
    try:
        return read_json(folder / OUTCOME, dict[str, Any], "run the same command again")
    except Damaged as error:
        return {"overrides": [], "error": str(error)}


class Report(Callback):
    """Print the table, and exit with 1 if a job failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from adalora.progress.terminal import console

        paths = sorted(Path(config.hydra.sweep.dir).glob(f"*/{OUTCOME}"), key=lambda path: int(path.parent.name))
        outcomes = [read_outcome(path.parent) for path in paths]
        elsewhere = "submitit" in config.hydra.launcher._target_
        plans = [outcome for outcome in outcomes if "setting" in outcome]
        results = [outcome for outcome in outcomes if "last" in outcome]
        failed = [outcome for outcome in outcomes if "error" in outcome]
        if plans:
            console.print(plan_table(plans))
        if results:
            console.print(run_table(results))
        for outcome in outcomes:
            if "busy" in outcome:
                detail = f": {outcome['busy']}" if elsewhere else ""
                console.print(
                    f"skipped, running in another process: {' '.join(outcome['overrides'])}{detail}", soft_wrap=True
                )
        for outcome in failed:
            detail = f": {outcome['error']}" if elsewhere else ""  # the job in this process has said why
            console.print(f"failed: {' '.join(outcome['overrides'])}{detail}", soft_wrap=True)
        if failed:
            sys.exit(1)


def plan_table(plans: Sequence[dict[str, Any]]) -> Any:
    """A table of all planned jobs: setting, exact counts, deviation."""
    from rich.table import Table

    table = Table(box=None, title="planned")
    for column in (
        "model", "task", "method", "seed", "setting", "budget", "adapter kept", "deviation", "peak", "head", "steps",
    ):  # fmt: skip
        words = column in ("model", "task", "method", "setting")
        table.add_column(column, justify="left" if words else "right", overflow="fold")
    for plan in plans:
        deviation, counts = plan["budget"]["deviation"], plan["parameters"]
        table.add_row(
            *(str(plan[name]) for name in ("model", "task", "method", "seed", "setting")),
            plan["budget"]["name"],
            f"{counts['kept']:,}",
            "" if deviation is None else f"{deviation:+.1%}",
            *(f"{counts[name]:,}" for name in ("peak", "head")),
            f"{plan['steps']:,}",
        )
    return table


def run_table(results: Sequence[dict[str, Any]]) -> Any:
    """A table of the runs of a multirun, one row per job, in the given order."""
    from rich.table import Table

    from adalora.records.published import decimals, factor

    table = Table(box=None)
    for name in ("task", "method", "budget", "seed"):
        table.add_column(name, overflow="fold")
    for name in ("adapter kept", "metric", "last", "best", "time"):
        table.add_column(name, justify="left" if name == "metric" else "right", overflow="fold")
    table.add_column("folder", overflow="fold")
    for run in results:
        headline, seconds, budget = run["task"]["headline"], round(run["seconds"]), run["budget"]
        table.add_row(
            run["task"]["name"], run["method"]["name"],
            f"custom {budget['params']:,}" if budget["name"] == "custom" else budget["name"], str(run["seed"]),
            f"{run['parameters']['kept']:,}", headline,
            *(f"{factor(headline) * run[step][headline]:.{decimals(headline)}f}" for step in ("last", "best")),
            f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}", f"seed{run['seed']}-{run['key']}",
        )  # fmt: skip
    return table
