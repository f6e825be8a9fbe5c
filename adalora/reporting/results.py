"""Read finished runs from disk, and report damaged ones."""

from pathlib import Path

from adalora.errors import UserError
from adalora.reading import Damaged
from adalora.resultfile import NAME, RECORDS, Result, read_result
from adalora.variant import Run


def read_results(root: Path) -> tuple[list[Run], list[str]]:
    """Read every valid `result.json` and record below `root`, sorted by path; return a line for each invalid one."""
    found, skipped = read_folders(root)
    return [run for _, run in found], skipped


def read_folders(root: Path) -> tuple[list[tuple[Path, Run]], list[str]]:
    """`read_results`, with each run's folder or record. Both raise `UserError` if `root` doesn't exist."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder: give the runs' with --runs FOLDER")
    runs: list[tuple[Path, Run]] = []
    skipped = []
    seen: dict[tuple[str, ...], str] = {}
    files = {*root.rglob(NAME), *root.rglob(RECORDS)}
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
    """Say what is wrong if a result lies in another run's folder or record; None if it is in its own."""
    own = f"seed{run.seed}-{run.key}"
    if place.name == own or place.name.endswith(f"-{own}.json"):
        return None
    return f"says seed {run.seed} and key {run.key}, but lies in {place.name}"


def budget_of(run: Run) -> str:
    """The budget's name, with the count if it is custom."""
    name = run["budget"]["name"]
    return f"custom {run['budget']['params']:,}" if name == "custom" else name


def folder_of(run: Run) -> str:
    """The name of the run folder."""
    return f"seed{run['seed']}-{run['key']}"
