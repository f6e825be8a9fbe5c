"""Collect the result of a run, with everything needed to judge and repeat it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from adalora.backbones.files import Weights
from adalora.backbones.options import Model
from adalora.methods.protocol import Method
from adalora.planning.identity import MODEL_OPTIONS
from adalora.records.provenance import commit, hardware, peak_memory_mb, versions
from adalora.records.result import SCHEMA, Result
from adalora.training.checkpoint import Progress
from tasks.data import Data
from tasks.options import Task

if TYPE_CHECKING:
    from adalora.run.run import Prepared


def model_of(model: Model, weights: Weights) -> dict[str, Any]:
    """The backbone's part of a record."""
    return {
        "name": model.name,
        "title": model.title,
        "comparable": model.comparable,
        "origin": weights.origin,
        "digest": weights.digest,
        "files": weights.files,
        **{name: getattr(model, name) for name in MODEL_OPTIONS},
    }


def task_of(task: Task, data: Data) -> dict[str, Any]:
    """A task as records have it, with its data."""
    return {
        **{name: getattr(task, name) for name in task.scored},
        "origin": data.origin,
        "subset": data.subset,
        "notes": data.notes,
        "digest": data.digest,
        "rows": data.rows,
        "train_split": data.train_split,
        "headline": task.metric_name(task.headline, data.eval_splits[0]),
        "direction": task.direction,
    }


def record(run: "Prepared", method: Method, progress: Progress, command: list[str]) -> Result:
    """Collect the result of a finished run."""
    plan, accelerator = run.plan, run.accelerator
    config, counts = plan.config, plan.solution.counts
    peak, kept = method.peak(), method.kept()
    peak, kept = (counts.peak if peak is None else peak), (counts.kept if kept is None else kept)
    return Result(
        schema=SCHEMA,
        key=run.folder.key,
        cell=run.folder.cell,
        model=model_of(config.model, run.weights),
        task=task_of(config.task, run.data),
        method=asdict(config.method) | ({"basis": config.method.basis} if config.method.basis else {}),
        budget={"name": plan.solution.budget, "params": config.budget.params, "deviation": plan.solution.deviation},
        recipe={name: getattr(config.recipe, name) for name in ("name", "protocol", "source")},
        options=run.options,
        seed=config.seed,
        precision=config.precision,
        last=progress.last,
        last_step=progress.step,
        best=progress.best,
        best_step=progress.best_step,
        parameters={
            "peak": peak,
            "kept": kept,
            "head": counts.head,
            "modules": counts.modules,
            "total": peak + counts.head + counts.modules,
        },
        ranks=method.ranks(),
        seconds=round(progress.seconds, 2),
        peak_memory_mb=peak_memory_mb(accelerator.device),
        training=asdict(config.training),
        command=command,
        versions=versions(),
        commit=commit(),
        hardware=hardware(accelerator.device) | {"processes": accelerator.num_processes},
    )
