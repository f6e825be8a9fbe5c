"""Choose batch sizes that fit into a device's memory, from the plan's estimates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from transformers import PreTrainedModel

from adalora import processes
from adalora.config.schema import PlannedTraining, Resolved
from adalora.errors import UserError

# Share of the memory that an estimate may use (ours); libraries and fragmentation need the rest. On a CPU a step
# took twice its estimate (docs/gpu.md).
ON_GPU, ON_CPU = 0.9, 0.4
LARGEST = 512  # rows of an evaluation batch under `auto` (ours): larger ones aren't faster
GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """The device that a run would use."""

    name: str
    memory: int  # bytes
    processes: int  # processes that share a batch
    share: float = ON_GPU  # of the memory that an estimate may use


def machine(device: str) -> Machine:
    """The device of this machine that `device` (auto, cpu, cuda) selects."""
    count = processes.count()
    if device != "cpu" and torch.cuda.is_available():
        found = torch.cuda.get_device_properties(processes.local_rank() % torch.cuda.device_count())
        return Machine(found.name, found.total_memory, count)
    return Machine("this machine", psutil.virtual_memory().total, count, ON_CPU)


def fit_batches(
    training: PlannedTraining, here: Machine, needs: Callable[[int], float], needs_to_evaluate: Callable[[int], float]
) -> tuple[int, int, list[str]]:
    """Choose `micro_batches` and `eval_batch_size` of the training if they are `auto`.

    Args:
        training: the options.
        here: the device.
        needs: bytes of a training step for a number of rows per pass.
        needs_to_evaluate: bytes of an evaluation for a number of rows per batch.

    Returns:
        Both, and a line for each value that was chosen or may not fit.

    Raises:
        UserError: under `auto`, not even one row fits.
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
                f"a step of one row needs about {needs(1) / GIB:.3g} GiB, but {here.name} has {here.memory / GIB:.3g}: "
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


def training_memory(config: Resolved, built: PreTrainedModel, trained: int, rows: int) -> float:
    """Bytes of a training step with `rows` rows per pass, all at the maximum length.

    Counts fp32 weights; gradients and two moments of trained parameters; and activations of s b h (34 + 5 a s / h)
    bytes per layer in 16 bits (Korthikanti et al., arXiv 2205.05198, without recomputation), twice that in fp32, with
    DeBERTa's attention scores three times. Activation checkpointing keeps each layer's input and one whole layer. The
    paper measured 11.1 GB for LoRA on MNLI and 13.1 on SQuADv2 (Table 15); this gives 14.9 and 14.8.
    """
    sizes: Any = built.config
    layers, layer = sizes.num_hidden_layers, layer_memory(config, built, rows)
    if config.training.activation_checkpointing:  # each layer's input, and one whole layer
        kept = layers * 4 * rows * config.task.max_length * sizes.hidden_size + layer
    else:
        kept = layers * layer
    return float(weights_memory(built) + 12 * trained + kept)


def evaluation_memory(config: Resolved, built: PreTrainedModel, rows: int) -> float:
    """Bytes of an evaluation with `rows` rows per batch, all at the maximum length.

    Counts the weights, the merged weights beside them, and two layers' activations; generation adds keys and values of
    every beam, and the logits."""
    sizes: Any = built.config
    task = config.task
    total = 2 * weights_memory(built) + 2 * layer_memory(config, built, rows)
    if task.generates is not None:
        beams, tokens = task.generates
        kept = 2 * sizes.decoder_layers * sizes.hidden_size * (beams * tokens + task.max_length)
        total += 4 * rows * (kept + beams * sizes.vocab_size)
    return float(total)


def layer_memory(config: Resolved, built: PreTrainedModel, rows: int) -> float:
    """Bytes of one layer's activations."""
    sizes: Any = built.config
    hidden, heads, tokens = sizes.hidden_size, sizes.num_attention_heads, config.task.max_length
    width = 2 if config.precision in ("fp32", "tf32") else 1
    scores = 3 if config.model.model_type == "deberta-v2" else 1
    return width * tokens * rows * hidden * (34 + 5 * scores * heads * tokens / hidden)


def weights_memory(built: PreTrainedModel) -> int:
    """Bytes of the weights in fp32."""
    return 4 * sum(p.numel() for p in built.parameters())
