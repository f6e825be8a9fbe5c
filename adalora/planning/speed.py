"""How long a training step takes: on a GPU from `results/bench/devices.yaml`, which says what of it was measured; on
another device from the speed of matrix products, which is measured on the spot."""

import math
import re
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field, PositiveFloat

from adalora import processes
from adalora.files.reading import read_yaml
from adalora.paths import RESULTS
from adalora.planning.memory import CPU, machine
from adalora.planning.plan import Plan

Basis = Literal["measured", "scaled", "guessed"]
SHARE = 0.5  # share of the matrix products' speed that training reaches (ours; docs/reproduce.md has measurements)
SIDE = 768  # size of the measured product: DeBERTaV3-base's width
SHOWN = ("RTX 4090", "A100", "H100")  # in a plan


class Launches(BaseModel, extra="forbid"):
    """Operations of a step."""

    layer: PositiveFloat
    rest: PositiveFloat


class Gpu(BaseModel, extra="forbid"):
    """The rates of a GPU. `name` is a part of what its driver calls it."""

    name: str
    peak: dict[str, PositiveFloat]  # TFLOP/s by precision
    fp32: PositiveFloat  # share of the peak that training reaches
    measured: list[str] = []  # precisions whose share was measured


class Devices(BaseModel, extra="forbid"):
    """The file."""

    share: dict[str, PositiveFloat]
    launch: PositiveFloat
    launched: list[list[str]]  # GPU and precision that `launch` was measured with
    launches: dict[str, Launches]
    gpus: list[Gpu] = Field(min_length=1)


@dataclass(frozen=True)
class Speed:
    """Seconds a step without evaluations, and what they rest on."""

    seconds: float
    basis: Basis


@cache
def devices() -> Devices:
    """The committed table. Raises `UserError` if it can't be read or isn't valid."""
    return read_yaml(RESULTS / "bench" / "devices.yaml", Devices)


def find(name: str) -> Gpu | None:
    """The GPU whose name is in `name`, such as NVIDIA A100-SXM4-80GB; none for a laptop's, or a part of one."""
    known = () if "Laptop" in name or " MIG " in name else devices().gpus
    return next((gpu for gpu in known if re.search(rf"\b{gpu.name}\b", name)), None)


def step_speed(plan: Plan, gpu: Gpu, precision: str, count: int = 1) -> Speed | None:
    """How long a step of a plan takes on a GPU, without evaluations; None if the GPU doesn't have the precision.

    seconds = max(FLOPs / (share * peak), operations * launch): arithmetic waits for launches, or launches for it.
    Micro-batches and activation checkpointing launch a pass's operations again. `count` processes with a GPU each share
    the rows, and what they exchange isn't counted.
    """
    if precision not in gpu.peak:
        return None
    table, model, training = devices(), plan.config.model, plan.config.training
    counts = table.launches[model.model_type]
    sizes = model.config
    layers = sizes.get("num_hidden_layers") or sizes["decoder_layers"]
    passes = training.micro_batches * (4 / 3 if training.activation_checkpointing else 1)
    share = gpu.fp32 if precision == "fp32" else table.share[precision]
    arithmetic = plan.cost.flops / count / (share * gpu.peak[precision] * 1e12)
    launches = passes * (counts.layer * layers + counts.rest) * table.launch * 1e-6
    host = launches > arithmetic
    basis: Basis = "scaled" if host or precision == "fp32" else "guessed"
    measured = [gpu.name, precision] in table.launched if host else precision in gpu.measured
    if measured and model.model_type == "deberta-v2" and plan.config.method.name in ("adalora", "lora"):
        basis = "measured"
    return Speed(max(launches, arithmetic), basis)


def speed_here(plan: Plan) -> Speed:
    """How long a step of a plan takes on the device that it would use."""
    config = plan.config
    gpu = gpu_here(config.device, config.precision)
    if gpu is not None and (speed := step_speed(plan, gpu, config.precision, processes.count())):
        return speed
    flops = plan.cost.flops / processes.count()
    return Speed(flops / (SHARE * rate(config.precision, config.device)), "guessed")


def gpu_here(device: str, precision: str) -> Gpu | None:
    """The GPU that `device` selects, if the table has it with this precision."""
    gpu = find(machine(device).name)
    return gpu if gpu is not None and precision in gpu.peak else None


@cache
def rate(precision: str, device: str) -> float:
    """Measure the FLOP/s of matrix products on the device, which takes about 0.2 s."""
    rows, on_cpu = 2048, machine(device).name == CPU
    a: Any
    b: Any
    if on_cpu and precision in ("fp32", "tf32"):
        a, b = (np.ones((n, SIDE), dtype=np.float32) for n in (rows, SIDE))
    else:
        import torch  # which takes seconds, and on a CPU is as fast as NumPy

        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
        # no random numbers, as a run draws its own afterwards
        a, b = (torch.ones(n, SIDE, dtype=dtype, device="cpu" if on_cpu else "cuda") for n in (rows, SIDE))

    def seconds(repeats: int) -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            a @ b
        if not on_cpu:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    seconds(1)  # the first is slow
    repeats = math.ceil(0.1 / seconds(1))
    return repeats * 2 * rows * SIDE * SIDE / seconds(repeats)
