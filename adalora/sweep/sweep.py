"""`make reproduce-*`: run a list of cells and write the tables."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from adalora.backbones.load import locate
from adalora.errors import UserError
from adalora.files.lock import locked
from adalora.planning.plan import Cost
from adalora.progress.terminal import say
from adalora.sources.hub import all_of
from adalora.sweep.cells import Cell
from adalora.sweep.estimate import Estimate, estimator
from adalora.sweep.live import View, Watched, WatchedCell
from adalora.sweep.local import Outcome, run_cells
from adalora.sweep.records import Recorder
from adalora.sweep.slurm import SWEEPS, Slurm, follow, submit
from adalora.sweep.status import Content, statuses
from adalora.wording import duration
from tasks.data import load_data

Written = tuple[list[Path], list[str]]  # files, and warnings


def sweep(
    cells: Sequence[Cell],
    left: Sequence[str],
    launcher: int | Slurm,
    report: Callable[[Path], Written],
    records: Path | None = None,
) -> int:
    """Run every cell that is not done, and write the tables.

    Args:
        cells: the cells.
        left: lines about requested settings that aren't among the cells.
        launcher: how many runs at once on this machine, or SLURM's options.
        report: writes the tables or pages for the runs below a run root.
        records: folder for records of the runs, written as they finish; recorded cells count as done.

    Returns:
        The exit code: 1 if a cell failed or can't run.

    Raises:
        UserError: weights, data or disk space are missing; nothing was started.
    """
    root = Path(cells[0].config.run_root).expanduser()
    for line in left:
        say(f"not run: {line}")
    able, unable = [], []
    estimates: dict[str, Estimate] = {}
    estimate = estimator(root)
    for cell in cells:
        found = estimate(cell)
        if isinstance(found, Estimate):
            estimates[cell.id] = found
            able.append(cell)
        else:
            unable.append(f"{cell.command}: {found}")
            say(f"can't run: {unable[-1]}")
    if not able:
        raise UserError("no cell can run: the lines above say why")
    content = contents(able)
    recorder = Recorder(root, content, records)
    recorder.look(always=True)
    before = statuses(root, content, records)
    waiting = isinstance(launcher, Slurm) and launcher.wait
    elsewhere = ("queued", "running") if isinstance(launcher, Slurm) else ("queued",)
    left_alone = Counter(status.name for status in before.values() if status.name in elsewhere)
    todo = [cell for cell in able if before[cell.id].name not in ("done", *elsewhere)]
    workers = len(todo) if isinstance(launcher, Slurm) else launcher
    seconds = sum(estimates[cell.id].seconds for cell in todo)
    disk = check_disk(root, {cell.id: estimates[cell.id].plan.cost for cell in todo}, workers)
    done = sum(status.name == "done" for status in before.values())
    text = "".join(f", {count} {name} already" for name, count in left_alone.items())
    say(f"{len(able)} cells, {done} done{text}")
    if todo:
        how = "each a SLURM job" if isinstance(launcher, Slurm) else f"{launcher} at once"
        say(f"{len(todo)} to run, {how}: about {duration(seconds)} one after another; {disk}")

    outcomes: dict[str, Outcome] = {}
    if todo or (waiting and left_alone):
        folder = root / SWEEPS / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}-{os.getpid()}"
        lines = [WatchedCell(cell.id, name_of(cell), estimates[cell.id].seconds, content[cell.id]) for cell in able]
        with locked(folder):
            watched = Watched(str(root.absolute()), workers, lines, str(records.absolute()) if records else None)
            watched.save(folder)
            with View(watched) as view:

                def look() -> None:
                    view.look()
                    recorder.look()

                try:
                    if isinstance(launcher, Slurm):
                        outcomes = by_slurm(todo, launcher, folder, content, look)
                    else:
                        outcomes = run_cells(todo, launcher, folder, look)
                finally:
                    recorder.look(always=True)
                view.look(always=True)
        if isinstance(launcher, Slurm) and not launcher.wait:
            return 1 if unable else 0
        for cell in todo:
            if (outcome := outcomes[cell.id]).kind != "done":
                say(f"{outcome.kind}: {cell.command}: {outcome.reason}")
    failed = [cell for cell, outcome in outcomes.items() if outcome.kind in ("failed", "stopped")]
    try:
        files, warnings = report(root)
    except UserError as error:
        say(f"no tables: {error}")
    else:
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr)
        names = ", ".join(file.name for file in files if file.suffix in (".md", ".html"))
        also = ", also as csv and tex" if any(file.suffix == ".csv" for file in files) else ""
        say(f"{len(failed)} of {len(able)} cells failed. Tables in {files[0].parent}: {names}{also}")
    return 1 if failed or unable else 0


def contents(cells: Sequence[Cell]) -> dict[str, Content]:
    """Find and read the weights and data of all models and tasks among the cells.

    Returns:
        Their digests, by cell id.

    Raises:
        UserError: something is missing or damaged; everything missing is reported at once.
    """
    models = {repr(cell.config.model): cell.config for cell in cells}
    tasks = {repr(cell.config.task): cell.config for cell in cells}
    digests = all_of(
        [lambda config=config: locate(config.model, config.cache_dir).digest for config in models.values()]
        + [lambda config=config: load_data(config.task, config.data_root).digest for config in tasks.values()]
    )
    found = dict(zip([*models, *tasks], digests, strict=True))
    return {cell.id: Content(found[repr(cell.config.model)], found[repr(cell.config.task)]) for cell in cells}


def check_disk(root: Path, costs: Mapping[str, Cost], workers: int) -> str:
    """Check that the disk of `root` has enough free space for the runs, and return a line about it.

    Raises:
        UserError: there isn't enough.
    """
    there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    largest = sorted((cost.checkpoints for cost in costs.values()), reverse=True)
    needed = sum(cost.disk for cost in costs.values()) + sum(largest[:workers])
    free = shutil.disk_usage(there).free
    line = f"about {needed / 1e9:.1f} GB of disk, {free / 1e9:.0f} GB are free"
    if needed > free:
        raise UserError(
            f"{root}: the sweep needs {line}: free some, choose another folder with run_root=FOLDER, "
            "or run less at a time with ONLY= or SEEDS="
        )
    return line


def by_slurm(
    cells: Sequence[Cell], slurm: Slurm, folder: Path, content: Mapping[str, Content], look: Callable[[], None]
) -> dict[str, Outcome]:
    """Submit `cells`, wait for the jobs of all cells in `content`, and return the outcomes of `cells` by id. If
    `slurm.wait` is false, return an empty dictionary after submitting."""
    root = folder.parents[1]
    jobs = submit(cells, slurm, folder)
    ends = f", scancel {' '.join(jobs)} ends them" if jobs else ""
    text = (
        f"SLURM has the jobs ({', '.join(jobs) or 'of before'}): make watch follows them{ends}, and the same command "
        "submits what is missing and writes the tables"
    )
    if not slurm.wait:
        say(text)
        return {}
    try:
        follow(lambda: any(status.name in ("queued", "running") for status in statuses(root, content).values()), look)
    except BaseException:
        say(text)
        raise
    found: dict[str, Outcome] = {}
    for cell, status in statuses(root, {cell.id: content[cell.id] for cell in cells}).items():
        kind = status.name if status.name == "done" or status.name == "failed" else "stopped"
        found[cell] = Outcome(kind, status.reason or status.name)
    return found


def name_of(cell: Cell) -> str:
    """A cell in a few words: `rte adalora 0.3M form=doublets lr=1e-3 seed=1`."""
    own = [cell.config.task.name, cell.config.method.name]
    if cell.config.method.has_budget:
        own.append(cell.config.budget.name)
    shown = ("method.", "training.lr=")  # what cells of a table or study can differ in
    options = [text.partition(".")[2] for text in cell.overrides if text.startswith(shown)]
    return " ".join([*own, *options, f"seed={cell.config.seed}"])
