"""Summarisation with MiniLM's shape in BART's classes, against PEFT and transformers' generation."""

from statistics import median
from typing import Any

from adalora.paths import ROOT
from scripts.bench.lengths import documents
from scripts.bench.turns import contenders

ROWS = 8  # documents per batch
SIDES: dict[str, dict[str, Any]] = {
    "AdaLoRA": {"side": "ours", "method": "adalora"},
    "LoRA": {"side": "ours", "method": "lora"},
    "PEFT AdaLoRA": {"side": "peft", "method": "adalora"},
    "PEFT LoRA": {"side": "peft", "method": "lora"},
    "transformers, no adapter": {"side": "library"},
}


def measure(rounds: int, precision: str) -> dict[str, Any]:
    """Time training steps on batches of short and of long documents, and the generation of summaries for a batch of all
    lengths, with alternating sides.

    Args:
        rounds: steps per batch; generation is repeated half as often.
        precision: fp32, bf16 or fp16 (only on CUDA).
    """
    shared = {"task": "xsum", "precision": precision}
    batches, (every,) = documents(2, ROWS), documents(1, ROWS // 2)
    found: dict[str, dict[str, Any]] = {name: {"steps": {}, "generation": []} for name in SIDES}
    with contenders({name: (spec | shared, ROOT) for name, spec in SIDES.items()}) as sides:
        trained = {name: side for name, side in sides.items() if SIDES[name]["side"] != "library"}
        for name, side in trained.items():
            side.ask({"do": "step", "lengths": batches[0]})  # warms up
            found[name] |= side.ask({"do": "operations", "lengths": batches[0]})
        for turn in range(rounds):
            for batch in batches:
                for name, side in trained.items():
                    taken = side.ask({"do": "step", "lengths": batch})["seconds"]
                    found[name]["steps"].setdefault(str(sum(batch)), []).append(taken)
            for name, side in sides.items() if turn % 2 == 0 else ():
                taken = side.ask({"do": "generate", "lengths": every})["seconds"]
                found[name]["generation"].append(taken)
    return {"precision": precision, "rows": ROWS, "sides": found}


def speeds(figures: dict[str, Any], name: str, peer: str) -> list[float]:
    """Speed of a step of `name` divided by that of `peer`, batch by batch."""
    one, other = (figures["sides"][side]["steps"] for side in (name, peer))
    return [quotient(other[tokens], one[tokens]) for tokens in one]


def generation(figures: dict[str, Any], name: str, peer: str) -> float:
    """Speed of generation of `name` divided by that of `peer`."""
    one, other = (figures["sides"][side]["generation"] for side in (name, peer))
    return quotient(other, one)


def quotient(times: list[float], others: list[float]) -> float:
    """Median over the rounds."""
    return median(a / b for a, b in zip(times, others, strict=True))
