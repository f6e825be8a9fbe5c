"""The record of a run, with all that is needed to judge and repeat it."""

import functools
import os
import platform
import resource
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from adalora import __version__
from adalora.backbones.load import Weights
from adalora.cell import MODEL_OPTIONS
from adalora.methods.protocol import Method
from adalora.plan import Plan
from adalora.resultfile import SCHEMA, Result
from adalora.runfolder import RunFolder
from adalora.training.checkpoint import Progress
from tasks.data import Data

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "peft", "tokenizers", "numpy", "scipy", "scikit-learn")


def versions() -> dict[str, str]:
    """Python, this suite and the packages that decide numbers."""
    return {"python": platform.python_version(), "adalora": __version__} | {name: version(name) for name in PACKAGES}


@functools.cache
def commit(root: Path = ROOT) -> str | None:
    """The commit that a checkout, this one by default, is at; None where there is none.

    It ends in `-dirty` with local changes, or with files that git doesn't know where code and options lie.
    """
    head = git(root, "rev-parse", "HEAD")
    new = git(root, "status", "--porcelain", "--untracked-files=all", "--", "adalora", "conf", "tasks")
    changed = git(root, "status", "--porcelain", "--untracked-files=no") or new
    return f"{head}-dirty" if head and changed else head or None


def git(root: Path, *arguments: str) -> str:
    """What git says of a checkout; nothing where there is none."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor or GPU, cores, threads, system."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "device": device.type,
        "name": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def peak_memory_mb(device: torch.device) -> int:
    """The most memory this process held (CPU) or allocated on the GPU, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def record(
    plan: Plan,
    weights: Weights,
    data: Data,
    folder: RunFolder,
    method: Method,
    progress: Progress,
    accelerator: Accelerator,
    command: list[str],
) -> Result:
    """All that is known of a finished run."""
    config, counts = plan.config, plan.setting.counts
    peak, kept = method.peak(), method.kept()
    peak, kept = (counts.peak if peak is None else peak), (counts.kept if kept is None else kept)
    headline = config.task.metric_name(config.task.headline, data.eval_splits[0])
    return Result(
        schema=SCHEMA,
        key=folder.key,
        cell=folder.cell,
        model={
            "name": config.model.name,
            "title": config.model.title,
            "comparable": weights.comparable,
            "origin": weights.origin,
            "digest": weights.digest,
            "files": weights.files,
            **{name: getattr(config.model, name) for name in MODEL_OPTIONS},
        },
        task={
            **{name: getattr(config.task, name) for name in config.task.scored},
            "origin": data.origin,
            "subset": data.subset,
            "notes": data.notes,
            "digest": data.digest,
            "rows": data.rows,
            "train_split": data.train_split,
            "headline": headline,
            "direction": config.task.direction,
        },
        method=asdict(config.method),
        budget={"name": plan.setting.budget, "params": config.budget.params, "deviation": plan.setting.deviation},
        recipe=asdict(config.recipe),
        seed=config.seed,
        precision=config.precision,
        last=progress.last,
        last_step=progress.step,
        best=progress.best,
        best_step=progress.best_step,
        parameters={"peak": peak, "kept": kept, "head": counts.head, "total": peak + counts.head},
        ranks=method.ranks(),
        seconds=round(progress.seconds, 2),
        peak_memory_mb=peak_memory_mb(accelerator.device),
        training=asdict(config.training),
        command=command,
        versions=versions(),
        commit=commit(),
        hardware=hardware(accelerator.device) | {"processes": accelerator.num_processes},
    )
