"""Check weights, data and disk space before a sweep starts: each once, not once per cell."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from adalora.backbones.load import locate
from adalora.errors import UserError
from adalora.planning.plan import Cost
from adalora.sources.hub import all_of
from adalora.sweep.cells import Cell
from adalora.sweep.status import Content
from tasks.data import load_data


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
