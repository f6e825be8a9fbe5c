"""A training step, against PEFT and against no adapter, in real tokens per second."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from adalora.errors import UserError
from adalora.paths import ROOT
from scripts.bench.lengths import grouped, in_random_order
from scripts.bench.turns import Contender, contenders

RANDOM = "PEFT AdaLoRA, random order"
BEFORE = "AdaLoRA before"
RELEASED_WIDTH = 320  # max_seq_length of the released GLUE scripts (FACTS.md)


def measure(rounds: int, rows: int, precision: str, against: Path | None) -> dict[str, Any]:
    """Time every side on each batch, alternating: first ours, then AdaLoRA against PEFT's (all at once need 30 GB).

    Args:
        rounds: number of batches; half as many in random order, where the peer is many times slower.
        rows: rows per batch.
        precision: fp32, bf16 or fp16 (only on CUDA).
        against: another checkout, whose AdaLoRA is also timed.
    """
    shared = {"precision": precision}
    own = {
        "AdaLoRA": {"side": "ours", "method": "adalora"},
        "LoRA": {"side": "ours", "method": "lora"},
        "no adapter": {"side": "floor"},
    }
    peers = {
        "AdaLoRA": own["AdaLoRA"],
        "PEFT AdaLoRA": {"side": "peft", "method": "adalora"},
        "PEFT LoRA": {"side": "peft", "method": "lora"},
    }
    places = {BEFORE: against} if against else {}
    if against:
        own[BEFORE] = own["AdaLoRA"]
    every, half = grouped(rounds, rows), in_random_order(max(1, rounds // 2), rows)
    groups = {}
    for group, specs in (("own", own), ("peers", peers)):
        built = {name: (spec | shared, places.get(name, ROOT)) for name, spec in specs.items()}
        with contenders(built) as sides:
            groups[group] = {name: side.facts | {"steps": []} for name, side in sides.items()}
            for name, side in sides.items():
                side.ask({"do": "step", "lengths": every[0]})  # warms up
                groups[group][name] |= side.ask({"do": "operations", "lengths": every[0]})
            take(sides, groups[group], every)
            if group == "peers":
                both = {"AdaLoRA": "AdaLoRA, random order", "PEFT AdaLoRA": RANDOM}
                for name, again in both.items():
                    groups[group][again] = groups[group][name] | {"steps": []}
                take({again: sides[name] for name, again in both.items()}, groups[group], half)
    return {"precision": precision, "rows": rows, "released": as_released(half[-1][::4])} | groups


def as_released(batch: list[int]) -> dict[str, Any]:
    """Time a step of PEFT's AdaLoRA as in the released script: fp32, every row padded to 320 tokens. Its process may
    only use free memory; if that isn't enough, the result has no `steps`."""
    spec = {"side": "peft", "method": "adalora", "precision": "fp32", "width": RELEASED_WIDTH}
    limit = psutil.virtual_memory().available * 9 // 10 >> 20
    if not torch.cuda.is_available():  # the CUDA driver maps far more memory than it uses
        spec["limit_mib"] = limit
    found: dict[str, Any] = {"limit_mib": limit, "rows": len(batch), "steps": []}
    try:
        with contenders({"PEFT AdaLoRA as released": (spec, ROOT)}) as sides:
            answer = sides["PEFT AdaLoRA as released"].ask({"do": "step", "lengths": batch})
    except UserError as error:
        if "memory" not in str(error):
            raise
        return found
    size = {"tokens": sum(batch), "padded": len(batch) * RELEASED_WIDTH, "seconds": answer["seconds"]}
    return found | {"memory_mib": answer["memory_mib"], "steps": [size]}


def take(sides: Mapping[str, Contender], found: Mapping[str, dict[str, Any]], batches: Sequence[list[int]]) -> None:
    """Time a step of every side on each batch, alternating."""
    for batch in batches:
        first, side = next(iter(sides.items()))
        found[first].setdefault("rates", []).append(side.ask({"do": "rate"})["flops_per_s"])
        for name, side in sides.items():
            answer = side.ask({"do": "step", "lengths": batch})
            size = {"tokens": sum(batch), "padded": len(batch) * max(batch)}
            found[name]["steps"].append(size | {"seconds": answer["seconds"]})
            found[name]["memory_mib"] = answer["memory_mib"]


def rate(side: Mapping[str, Any]) -> float:
    """Real tokens per second over all steps."""
    return sum(step["tokens"] for step in side["steps"]) / sum(step["seconds"] for step in side["steps"])


def utilisation(side: Mapping[str, Any]) -> float:
    """Utilisation: the FLOP rate of a step divided by that of plain products. Counts 4 FLOPs per frozen weight and real
    token (the product and its input's gradient), and nothing else."""
    return 4 * side["frozen"] * rate(side) / median(side["rates"])


def times(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Time of a step of `one` divided by that of `other` on the same batch, median over the batches."""
    pairs = zip(one["steps"], other["steps"], strict=True)
    return median(a["seconds"] / b["seconds"] for a, b in pairs)
