"""Time and memory of a step with activation checkpointing, beside one without."""

from statistics import median
from typing import Any

from adalora.paths import ROOT
from scripts.bench.turns import contenders

METHODS = ("lora", "adalora", "increlora", "lorta")
ROWS, LENGTH = 16, 128  # of a batch, in tokens


def measure(rounds: int, precision: str) -> dict[str, Any]:
    """Alternate steps with and without it, for each of `METHODS` at budget 0.3M.

    Args:
        rounds: timed steps of each side, after one that warms up.
        precision: fp32, bf16 or fp16 (only on CUDA).
    """
    found = {}
    for method in METHODS:
        shared = {"side": "ours", "method": method, "precision": precision}
        specs = {
            on: (shared | {"options": [f"training.activation_checkpointing={on}"]}, ROOT) for on in ("false", "true")
        }
        sides: dict[str, Any] = {on: {"seconds": []} for on in specs}
        with contenders(specs) as running:
            for turn in range(rounds + 1):
                for on, side in running.items():
                    answer = side.ask({"do": "step", "lengths": [LENGTH] * ROWS})
                    sides[on]["memory_mib"] = answer["memory_mib"]
                    sides[on]["seconds"] += [answer["seconds"]] if turn else []
        found[method] = {on: values | {"seconds": median(values["seconds"])} for on, values in sides.items()}
    return {"precision": precision, "rows": ROWS, "length": LENGTH, "methods": found}
