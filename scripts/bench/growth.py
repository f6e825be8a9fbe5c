"""Scaling of AdaLoRA's step and allocation, and every method's step against LoRA's."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn

from adalora.fast import speed_up
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.discovery import METHODS, create
from scripts.bench.side import FIRST, TOTAL, Operations, Side

MODULES, RANKS = (36, 72, 144, 288, 1008), (2, 4, 8, 16, 32)
# a quarter of DeBERTaV3-base's layers; tokens and rows per batch; mean rank
USUAL = {"layers": 3, "length": 64, "rows": 8, "rank": 8}
GROWN = {"layers": (3, 6, 12), "length": (32, 128, 256), "rows": (2, 32), "rank": (2, 32)}


def measure(repeats: int) -> dict[str, Any]:
    """Measure the allocation by number of modules (rank 4) and by rank (72 modules), a step by everything that affects
    it, and steps of all methods."""
    return {
        "modules": {n: allocation(n, 4, repeats) for n in MODULES},
        "ranks": {r: allocation(72, r, repeats) for r in RANKS},
        "steps": {what: {n: step(repeats, **USUAL | {what: n}) for n in values} for what, values in GROWN.items()},
        "methods": methods(repeats),
    }


def step(repeats: int, layers: int, length: int, rows: int, rank: int) -> dict[str, Any]:
    """Time a step of AdaLoRA in bf16 and its allocation, and measure peak memory beyond the model."""
    options = [*of_layers(layers), "budget=custom", f"budget.rank={rank}"]
    side = Side({"side": "ours", "method": "adalora", "options": options})
    line = {"do": "step", "lengths": [length] * rows}
    side.answer(line)
    answers = [side.answer(line) for _ in range(repeats)]
    return {
        "seconds": median(answer["seconds"] for answer in answers),
        "memory_mib": answers[-1]["memory_mib"],
    } | costs(side.method, side.trained, repeats, side.wait)


def of_layers(layers: int) -> list[str]:
    """Options for DeBERTaV3-base with another number of layers."""
    return [f"model.config.num_hidden_layers={layers}"]


def allocation(modules: int, rank: int, repeats: int) -> dict[str, Any]:
    """Measure what AdaLoRA adds to a step on so many modules of 768 x 768: the regulariser with its gradient, on the
    stacks of the forward pass, and scoring and pruning."""
    linears = {str(i): nn.Linear(768, 768, device="meta") for i in range(modules)}
    for linear in linears.values():  # the base weights aren't used, so they are expanded from one number
        linear.weight = nn.Parameter(torch.zeros(1, 1).expand(768, 768), requires_grad=False)
        linear.bias = nn.Parameter(torch.zeros(768), requires_grad=False)
    config = AdaLoRAConfig(init_rank=rank, target_rank=rank / 2, initial_steps=150, final_steps=450).with_steps(TOTAL)
    model, method = nn.ModuleDict(linears), create(config)
    method.attach(model, linears, TOTAL)
    speed_up(model, method)
    return costs(method, [p for p in model.parameters() if p.requires_grad], repeats)


def costs(
    method: Any, trained: list[nn.Parameter], repeats: int, wait: Callable[[], None] = lambda: None
) -> dict[str, dict[str, float]]:
    """Measure AdaLoRA's regulariser, and scoring and pruning. `wait` synchronises with the device."""

    def regulariser() -> Callable[[], object]:
        method.together.results()  # as at the start of a forward pass
        stacks = [stack for pair in method.together.kept[1] for stack in pair]
        return lambda: torch.autograd.grad(method.regulariser(), stacks)

    def allocate() -> Callable[[], object]:
        return lambda: method.after_step(FIRST)

    for p in trained:
        p.grad = torch.randn_like(p)
    return {name: timed(part, repeats, wait) for name, part in (("regulariser", regulariser), ("allocation", allocate))}


def timed(prepare: Callable[[], Callable[[], object]], repeats: int, wait: Callable[[], None]) -> dict[str, float]:
    """Median seconds of the function returned by `prepare`, after a warm-up, and its operations."""
    times = []
    for _ in range(repeats + 1):
        part = prepare()
        wait()
        start = time.perf_counter()
        part()
        wait()
        times.append(time.perf_counter() - start)
    part = prepare()
    with Operations() as operations:
        part()
    return {"seconds": median(times[1:]), "operations": operations.counts.total()}


def methods(repeats: int) -> dict[str, Any]:
    """Time every method's step at budget 0.3M, alternating with LoRA's; BitFit and full have fixed sizes."""
    spec = {"side": "ours", "options": of_layers(USUAL["layers"])}
    batch = [USUAL["length"]] * USUAL["rows"]
    lora = Side(spec | {"method": "lora"})
    found = {}
    for name in sorted(METHODS):
        if name == "peft":
            continue
        side = Side(spec | {"method": name})
        pairs = []
        for turn in range(repeats + 1):
            seconds = [one.answer({"do": "step", "lengths": batch})["seconds"] for one in (side, lora)]
            if turn:
                pairs.append(seconds[0] / seconds[1])
        operations = [one.answer({"do": "operations", "lengths": batch})["operations"] for one in (side, lora)]
        found[name] = {"time": median(pairs), "operations": operations[0] / operations[1]}
    return found


def share(values: dict[str, Any]) -> float:
    """The allocation's share of a step's time."""
    return (values["regulariser"]["seconds"] + values["allocation"]["seconds"]) / values["seconds"]


def operations(figures: dict[str, Any]) -> list[int]:
    """The distinct operation counts of an allocation, over all sizes."""
    every = [values for steps in figures["steps"].values() for values in steps.values()]
    return sorted({values["regulariser"]["operations"] + values["allocation"]["operations"] for values in every})
