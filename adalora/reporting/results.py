"""Finished runs read from disk, the damaged ones named."""

from pathlib import Path
from typing import Any

from adalora.errors import UserError
from adalora.reading import Damaged
from adalora.resultfile import Result, read_result

Run = dict[str, Any]  # a result.json


def read_results(root: Path) -> tuple[list[Run], list[str]]:
    """Every good `result.json` below `root`, in the order of their paths, and a line for each other one."""
    found, skipped = read_folders(root)
    return [run for _, run in found], skipped


def read_folders(root: Path) -> tuple[list[tuple[Path, Run]], list[str]]:
    """`read_results`, each with the run's folder. Both raise `UserError` where there is no such root."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder: give the runs' with --runs FOLDER")
    runs: list[tuple[Path, Run]] = []
    skipped = []
    seen: dict[tuple[str, ...], str] = {}
    for path in sorted(root.rglob("result.json"), key=lambda path: path.relative_to(root).as_posix()):
        place = path.relative_to(root).as_posix()
        try:
            result = read_result(path.parent)
        except Damaged as error:
            skipped.append(f"{place}: {error.reason}")
            continue
        run, reason = result.as_dict(), misplaced(result, path.parent.name)
        if reason is None:
            same = (run["key"], run["task"]["name"], run["method"]["name"], budget_of(run))
            reason = f"the same run as {seen[same]}" if same in seen else None
            seen.setdefault(same, place)
        if reason is None:
            runs.append((path.parent, run))
        else:
            skipped.append(f"{place}: {reason}")
    return runs, skipped


def misplaced(run: Result, folder: str) -> str | None:
    """What a result says of a place that it isn't in; None where it lies in its own."""
    own = f"seed{run.seed}-{run.key}"
    return None if folder == own else f"says seed {run.seed} and key {run.key}, but lies in {folder}"


def budget_of(run: Run) -> str:
    """The budget's name, with the number where the name says none."""
    name = run["budget"]["name"]
    return f"custom {run['budget']['params']:,}" if name == "custom" else name


def folder_of(run: Run) -> str:
    """The name of a run's folder."""
    return f"seed{run['seed']}-{run['key']}"
