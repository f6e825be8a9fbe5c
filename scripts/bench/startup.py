"""Time from command to plan, to the first training step and to a finished run's result, against importing torch."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from adalora.errors import UserError
from adalora.paths import ROOT

IMPORT = "importing torch"
RUN = ["train.py", "experiment=tiny", "model=deberta_minilm", "task=r8", "method=adalora", "debug=false"]
COMMANDS = {
    IMPORT: ["-c", "import torch"],
    "help": ["train.py", "--help"],
    "dry run": ["train.py", "task=rte", "method=adalora", "dry_run=true"],
    "first step": RUN,
    "finished run": RUN,
}


def measure(repeats: int) -> dict[str, Any]:
    """Time each command to its end, or to its first step; commands alternate. One run is finished before."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as place:
        for repeat in range(-1, repeats):  # the first fills the token cache and the file cache
            for name, command in COMMANDS.items():
                first = name == "first step" and repeat >= 0
                options = [f"run_root={place}/{repeat if first else 'finished'}", f"cache_dir={place}/cache"]
                taken = seconds([*command, *(options if command is RUN else [])], "step " if first else None)
                if repeat >= 0:
                    times[name].append(taken)
    return {"seconds": times}


def seconds(command: Sequence[str], line: str | None) -> float:
    """Time until a process ends, or prints a line with this start.

    Raises:
        UserError: the process failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=Path(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if line is None:
        _, said = process.communicate()
        taken = time.perf_counter() - start
    else:
        found = any(printed.startswith(line) for printed in process.stdout)
        taken = time.perf_counter() - start
        process.kill()
        _, said = process.communicate()
        if found:
            return taken
    if process.returncode:
        raise UserError(f"{' '.join(command)} failed: {(said.strip().splitlines() or ['no output'])[-1]}")
    return taken


def ratio(figures: dict[str, Any], name: str) -> float:
    """Time of a command, divided by that of the import."""
    return median(figures["seconds"][name]) / median(figures["seconds"][IMPORT])
