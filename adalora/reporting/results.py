"""Finished runs read from disk, the damaged ones named."""

from pathlib import Path
from typing import Any

from adalora.errors import UserError
from adalora.reading import Damaged
from adalora.resultfile import NAME, RECORDS, Result, read_result

Run = dict[str, Any]  # a result.json


def read_results(root: Path) -> tuple[list[Run], list[str]]:
    """Every good `result.json` and record below `root`, by path, and a line for each other one."""
    found, skipped = read_folders(root)
    return [run for _, run in found], skipped


def read_folders(root: Path) -> tuple[list[tuple[Path, Run]], list[str]]:
    """`read_results`, each with the run's folder or record. Both raise `UserError` where there is no such root."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder: give the runs' with --runs FOLDER")
    runs: list[tuple[Path, Run]] = []
    skipped = []
    seen: dict[tuple[str, ...], str] = {}
    files = {**dict.fromkeys(root.rglob(NAME)), **dict.fromkeys(root.rglob(RECORDS))}
    for path in sorted(files, key=lambda path: path.relative_to(root).as_posix()):
        place = path.relative_to(root).as_posix()
        own = path.parent if path.name == NAME else path
        try:
            result = read_result(own)
        except Damaged as error:
            skipped.append(f"{place}: {error.reason}")
            continue
        run, reason = result.as_dict(), misplaced(result, own)
        if reason is None:
            same = (run["key"], run["task"]["name"], run["method"]["name"], budget_of(run))
            reason = f"the same run as {seen[same]}" if same in seen else None
            seen.setdefault(same, place)
        if reason is None:
            runs.append((own, run))
        else:
            skipped.append(f"{place}: {reason}")
    return runs, skipped


def misplaced(run: Result, place: Path) -> str | None:
    """What a result says of a folder or record that isn't its own; None where it lies in its own."""
    own = f"seed{run.seed}-{run.key}"
    if place.name == own or place.name.endswith(f"-{own}.json"):
        return None
    return f"says seed {run.seed} and key {run.key}, but lies in {place.name}"


def budget_of(run: Run) -> str:
    """The budget's name, with the number where the name says none."""
    name = run["budget"]["name"]
    return f"custom {run['budget']['params']:,}" if name == "custom" else name


def folder_of(run: Run) -> str:
    """The name of a run's folder."""
    return f"seed{run['seed']}-{run['key']}"
