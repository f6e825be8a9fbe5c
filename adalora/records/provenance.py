"""Provenance of a run: commit, versions, hardware. Imports torch only when needed."""

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
from adalora.paths import ROOT

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "peft", "tokenizers", "numpy", "scipy", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of Python, this suite and the packages that affect the numbers."""
    return {"python": platform.python_version(), "adalora": __version__} | {name: version(name) for name in PACKAGES}


@functools.cache
def commit(root: Path = ROOT) -> str | None:
    """The commit of a checkout (default: this one), or None if there is none.

    `-dirty` is appended if tracked files have changed, code or configuration has untracked files, or git doesn't say.
    """
    head = git(root, "rev-parse", "HEAD")
    new = git(root, "status", "--porcelain", "--untracked-files=all", "--", "adalora", "conf", "tasks")
    changed = git(root, "status", "--porcelain", "--untracked-files=no")
    return head if head is None or new == changed == "" else f"{head}-dirty"


def git(root: Path, *arguments: str) -> str | None:
    """Run git in a checkout and return its output; None on failure."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip()


def hardware(device: "torch.device") -> dict[str, Any]:
    """Describe the device: name, cores, threads, system."""
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
    """Peak memory in MiB: allocated by this run on the GPU, or of the process (on a CPU; all jobs of a multirun that
    have none of their own)."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) // 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20
