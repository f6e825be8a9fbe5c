"""Estimate the time of a cell on this machine, from finished runs or from its plan."""

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from adalora.errors import UserError
from adalora.files.reading import Damaged
from adalora.planning.identity import official_rows
from adalora.planning.plan import Plan, make_plan
from adalora.planning.speed import Basis, speed_here
from adalora.records.provenance import hardware
from adalora.records.result import read_result
from adalora.sweep.cells import Cell

History = dict[tuple[str, str, str, str], list[float]]


@dataclass(frozen=True)
class Estimate:
    """The estimate for a cell."""

    plan: Plan
    seconds: float
    basis: Basis | Literal["runs"]  # runs: finished ones of the same model, task and method on this machine


def estimator(root: Path) -> Callable[[Cell], Estimate | str]:
    """Return a function that estimates a cell, or says why it can't run. It is cached over seeds.

    Args:
        root: the run root with finished runs.
    """
    history = finished(root)
    known: dict[tuple[str, ...], Estimate | str] = {}

    def of(cell: Cell) -> Estimate | str:
        setting = cell.overrides[:-1]  # without the seed
        if setting not in known:
            try:
                known[setting] = estimate(cell, history)
            except UserError as error:
                known[setting] = str(error)
        return known[setting]

    return of


def estimate(cell: Cell, history: History) -> Estimate:
    """Plan a cell and estimate its time. Raises `UserError` for one that can't run."""
    config = cell.config
    rows = official_rows(config)
    if config.task.train_split not in rows:
        raise UserError(f"conf/task gives {config.task.name} no row count of {config.task.train_split}: add rows")
    plan = make_plan(config, rows)
    seconds = history.get((config.model.name, config.task.name, config.method.name, config.precision))
    if seconds:
        return Estimate(plan, statistics.median(seconds) * plan.total_steps, "runs")
    speed = speed_here(plan)
    return Estimate(plan, speed.seconds * plan.total_steps, speed.basis)


def finished(root: Path) -> History:
    """Seconds per step, with evaluations, of finished runs on this machine, by model, task, method and precision."""
    kinds = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    here = {kind: hardware(torch.device(kind)) for kind in kinds}
    found = defaultdict(list)
    for path in root.glob("[!.]*/*/*/*/*/result.json"):
        try:
            run = read_result(path.parent)
        except Damaged:
            continue  # tables report damaged results; here they are ignored
        machine = here.get(str(run.hardware.get("device")), {})
        alone = run.hardware.get("processes", 1) == 1
        if alone and all(run.hardware.get(name) == machine.get(name, ...) for name in ("name", "cores", "system")):
            key = (run.model["name"], run.task["name"], run.method["name"], run.precision)
            found[key].append(run.seconds / max(run.last_step, 1))
    return found
