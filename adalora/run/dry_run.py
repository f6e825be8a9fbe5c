"""A dry run: print the plan of an experiment without importing what only training needs."""

from typing import Any

from adalora import processes
from adalora.backbones.files import glance
from adalora.config.schema import Config
from adalora.planning.identity import official_rows
from adalora.planning.plan import make_plan
from adalora.planning.speed import SHOWN, find, speed_here, step_speed
from adalora.progress.terminal import console, show_plan


def dry_run(config: Config) -> dict[str, Any]:
    """Print the plan and return a summary. Raises `UserError` for options, data and sizes that the run would refuse."""
    console.quiet = processes.rank() > 0
    rows = official_rows(config)
    if config.task.train_split not in rows or config.data_root or config.task.own_files:  # count the files' rows
        from tasks.data import load_data

        rows = load_data(config.task, config.data_root).rows
    plan = make_plan(config, rows)
    if config.task.recounted:
        plan.notes.append(f"its rows are {config.task.recounted} and counts those")
    gpus = {name: step_speed(plan, gpu, plan.config.precision) for name in SHOWN if (gpu := find(name))}
    speeds = {"here": speed_here(plan)} | {f"on an {name}": speed for name, speed in gpus.items() if speed}
    show_plan(plan, glance(config.model, config.cache_dir), speeds)
    return plan.summary()
