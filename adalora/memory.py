"""What fits into a device's memory, by the plan's estimates."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

from adalora import processes
from adalora.config.schema import PlannedTraining
from adalora.errors import UserError

# Shares of the memory that estimates may fill (ours): libraries and fragments take the rest. On a CPU a step took
# twice its estimate (docs/gpu.md).
ON_GPU, ON_CPU = 0.9, 0.4
LARGEST = 512  # rows of an evaluation batch under `auto` (ours): more brings no speed
GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """What a run here would have."""

    name: str
    memory: int  # bytes, of the device
    processes: int  # that share a batch
    share: float = ON_GPU  # of the memory, that estimates may fill


def machine(device: str) -> Machine:
    """This machine, as `device` (auto, cpu, cuda) asks for it."""
    count = processes.count()
    if device != "cpu" and torch.cuda.is_available():
        index = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
        found = torch.cuda.get_device_properties(index)
        return Machine(found.name, found.total_memory, count)
    return Machine("this machine", psutil.virtual_memory().total, count, ON_CPU)


def fitted(
    training: PlannedTraining, here: Machine, needs: Callable[[int], float], needs_to_evaluate: Callable[[int], float]
) -> tuple[int, int, list[str]]:
    """The training's `micro_batches` and `eval_batch_size`, chosen where they are `auto`.

    Args:
        training: the options.
        here: where it runs.
        needs: bytes of a training step that passes so many rows at once.
        needs_to_evaluate: bytes of an evaluation in batches of so many rows.

    Returns:
        Both, and a line for each that was chosen, or that may not fit.

    Raises:
        UserError: under `auto`, not even a row fits.
    """
    usable, notes = here.share * here.memory, []

    def rows(parts: int, whole: int = training.batch_size) -> int:
        return -(-whole // parts // here.processes)

    divisors = [n for n in range(1, training.batch_size + 1) if training.batch_size % n == 0]
    fits = next((n for n in divisors if needs(rows(n)) <= usable), None)
    micro = training.micro_batches
    if micro == "auto":
        if fits is None:
            raise UserError(
                f"a step of one row needs about {needs(1) / GIB:.3g} GiB, {here.name} has {here.memory / GIB:.3g}: "
                "set training.activation_checkpointing=true, lower task.max_length, or give training.micro_batches"
            )
        micro = fits
        notes.append(f"training.micro_batches=auto: {micro}, for about {needs(rows(micro)) / GIB:.2g} GiB a pass")
    elif (need := needs(rows(micro))) > usable:
        remedy = f"training.micro_batches={fits} (or auto)" if fits else "training.activation_checkpointing=true"
        have = f"{here.name} has {here.memory / GIB:.3g}"
        notes.append(f"a step may need {need / GIB:.3g} GiB, {have}: set {remedy} if it runs out")

    evaluated = training.eval_batch_size
    sizes = [2**n for n in range(LARGEST.bit_length())]
    most = max((size for size in sizes if needs_to_evaluate(rows(1, size)) <= usable), default=1)
    if evaluated == "auto":
        evaluated = most
        notes.append(f"training.eval_batch_size=auto: {evaluated}")
    elif needs_to_evaluate(rows(1, evaluated)) > usable:
        notes.append(f"an evaluation may need more than {here.name} has: set training.eval_batch_size={most} (or auto)")
    return micro, evaluated, notes
