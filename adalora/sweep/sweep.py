"""`make reproduce-*`: from a list of cells to the tables they fill."""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from adalora.errors import UserError
from adalora.lock import locked
from adalora.reporting.findings import gather
from adalora.reporting.tables import write_tables
from adalora.reporting.terminal import console
from adalora.sweep.cells import Cell
from adalora.sweep.check import check_disk, contents
from adalora.sweep.estimate import Estimate, estimator
from adalora.sweep.listing import duration
from adalora.sweep.live import SWEEPS, Line, View, Watched
from adalora.sweep.rounds import Sweep
from adalora.sweep.states import scan, state_of


def sweep(cells: Sequence[Cell], left: Sequence[str], workers: int, tables: Path) -> int:
    """Run every cell that is not done, and write the tables.

    Args:
        cells: what is wanted.
        left: lines on what was wanted and isn't among the cells.
        workers: runs at once.
        tables: folder for the tables.

    Returns:
        The exit code: 1 if a cell failed or can't run.

    Raises:
        UserError: weights, data or disk space are missing; nothing has been started.
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
    folders = scan(root)
    todo = [cell for cell in able if state_of(folders.get(cell.id, ()), content[cell.id]).name != "done"]
    seconds = sum(estimates[cell.id].seconds for cell in todo)
    disk = check_disk(root, {cell.id: estimates[cell.id].plan.cost for cell in todo}, workers)
    say(f"{len(able)} cells, {len(able) - len(todo)} done")
    if todo:
        say(f"{len(todo)} to run, {workers} at once: about {duration(seconds)} one after another; {disk}")

    failed: dict[str, str] = {}
    if todo:
        folder = root / SWEEPS / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}-{os.getpid()}"
        lines = [Line(cell.id, name_of(cell), estimates[cell.id].seconds, content[cell.id]) for cell in able]
        with locked(folder):
            watched = Watched(str(root.absolute()), workers, lines)
            watched.save(folder)
            with View(watched) as view:
                running = Sweep(folder, workers, view.look)
                running.run(todo)
                view.look(always=True)
        failed = running.failed()
        for cell in todo:
            if cell.id in failed:
                say(f"failed: {cell.command}: {failed[cell.id]}")
            if cell.id in running.busy():
                say(f"left to another process: {cell.command}")
    try:
        files, warnings = write_tables(gather(root), tables)
    except UserError as error:
        say(f"no tables: {error}")
    else:
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr)
        names = ", ".join(file.name for file in files if file.suffix == ".md")
        say(f"{len(failed)} of {len(able)} cells failed. Tables in {tables}: {names}, also as csv and tex")
    return 1 if failed or unable else 0


def say(text: str) -> None:
    """One line."""
    console.print(text, markup=False, soft_wrap=True)


def name_of(cell: Cell) -> str:
    """A cell in a few words: `rte adalora 0.3M form=doublets seed=1`."""
    own = [cell.config.task.name, cell.config.method.name]
    if cell.config.method.has_budget:
        own.append(cell.config.budget.name)
    options = [text.removeprefix("method.") for text in cell.overrides if text.startswith("method.")]
    return " ".join([*own, *options, f"seed={cell.config.seed}"])
