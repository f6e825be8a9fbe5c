"""Time from command to plan and to the first training step, against importing torch and transformers."""

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

IMPORTS = "importing torch and transformers"
CLASS = "importing the model's class"
COMMANDS = {
    IMPORTS: (["-c", "import torch, transformers"], None),
    CLASS: (["-c", "from transformers import DebertaV2ForSequenceClassification"], None),
    "dry run": (["train.py", "task=rte", "method=adalora", "dry_run=true"], None),
    "first step": (
        ["train.py", "experiment=tiny", "model=deberta_minilm", "task=r8", "method=adalora", "debug=false"],
        "step ",
    ),
}


def measure(repeats: int) -> dict[str, Any]:
    """Time each command to its end, or to a given line of output; commands alternate."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as place:
        for repeat in range(-1, repeats):  # the first fills the token cache and the file cache
            for name, (command, line) in COMMANDS.items():
                options = [f"run_root={place}/{repeat}", f"cache_dir={place}/cache"] if line else []
                taken = seconds([*command, *options], line)
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
    """Time of a command, divided by that of the imports."""
    return median(figures["seconds"][name]) / median(figures["seconds"][IMPORTS])
