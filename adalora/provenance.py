"""What a run was made with: commit, versions, machine. Imports torch only where it is asked of it."""

import functools
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora import __version__
from adalora.places import ROOT

if TYPE_CHECKING:
    import torch

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


def hardware(device: "torch.device") -> dict[str, Any]:
    """Processor or GPU, cores, threads, system."""
    import torch

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


def peak_memory_mb(device: "torch.device") -> int:
    """The most memory this process held (CPU) or allocated on the GPU, in MiB."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) // 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20
