"""`make reproduce-*`: run a list of cells and write the tables."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from adalora.errors import UserError
from adalora.lock import locked
from adalora.progress.terminal import console
from adalora.sweep.cells import Cell
from adalora.sweep.check import check_disk, contents
from adalora.sweep.estimate import Estimate, estimator
from adalora.sweep.launchers import Launcher, Local, Slurm
from adalora.sweep.listing import duration
from adalora.sweep.live import Line, View, Watched
from adalora.sweep.queue import SWEEPS
from adalora.sweep.records import Recorder
from adalora.sweep.rounds import Sweep
from adalora.sweep.states import states

Written = tuple[list[Path], list[str]]  # files, and warnings


def sweep(
    cells: Sequence[Cell],
    left: Sequence[str],
    launcher: Launcher,
    report: Callable[[Path], Written],
    records: Path | None = None,
) -> int:
    """Run every cell that is not done, and write the tables.

    Args:
        cells: the cells.
        left: lines about requested settings that aren't among the cells.
        launcher: how to launch the runs.
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
    before = states(root, content, records)
    theirs = ("queued", "running") if isinstance(launcher, Slurm) else ("queued",)
    left_alone = Counter(state.name for state in before.values() if state.name in theirs)
    todo = [cell for cell in able if before[cell.id].name not in ("done", *theirs)]
    workers = len(todo) if isinstance(launcher, Slurm) else launcher.workers
    seconds = sum(estimates[cell.id].seconds for cell in todo)
    disk = check_disk(root, {cell.id: estimates[cell.id].plan.cost for cell in todo}, workers)
    done = sum(state.name == "done" for state in before.values())
    told = "".join(f", {count} {name} already" for name, count in left_alone.items())
    say(f"{len(able)} cells, {done} done{told}")
    if todo:
        say(f"{len(todo)} to run, {where(launcher)}: about {duration(seconds)} one after another; {disk}")

    failed: dict[str, str] = {}
    if todo:
        folder = root / SWEEPS / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}-{os.getpid()}"
        lines = [Line(cell.id, name_of(cell), estimates[cell.id].seconds, content[cell.id]) for cell in able]
        with locked(folder):
            watched = Watched(str(root.absolute()), workers, lines, str(records.absolute()) if records else None)
            watched.save(folder)
            with View(watched) as view:

                def look() -> None:
                    view.look()
                    recorder.look()

                running = Sweep(folder, launcher, look)
                try:
                    running.run(todo)
                finally:
                    recorder.look(always=True)
                    if running.jobs and len(running.outcomes) < len(todo):
                        say(outliving(running.jobs))
                view.look(always=True)
        if len(running.outcomes) < len(todo):
            return 1 if unable else 0
        failed = running.failed()
        for cell in todo:
            if cell.id in failed:
                say(f"failed: {cell.command}: {failed[cell.id]}")
            if cell.id in running.busy():
                say(f"skipped, running in another process: {cell.command}")
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


def where(launcher: Launcher) -> str:
    """How the runs are launched, in words."""
    return f"{launcher.workers} at once" if isinstance(launcher, Local) else "each a SLURM job"


def outliving(jobs: Sequence[str]) -> str:
    """What the user can do about jobs that outlive the sweep."""
    return (
        f"SLURM has the jobs ({', '.join(jobs)}): make watch follows them, scancel {' '.join(jobs)} ends them, and the "
        "same command submits what is missing and writes the tables"
    )


def say(text: str) -> None:
    """One line."""
    console.print(text, markup=False, soft_wrap=True)


def name_of(cell: Cell) -> str:
    """A cell in a few words: `rte adalora 0.3M form=doublets lr=1e-3 seed=1`."""
    own = [cell.config.task.name, cell.config.method.name]
    if cell.config.method.has_budget:
        own.append(cell.config.budget.name)
    shown = ("method.", "training.lr=")  # what cells of a table or study can differ in
    options = [text.partition(".")[2] for text in cell.overrides if text.startswith(shown)]
    return " ".join([*own, *options, f"seed={cell.config.seed}"])
