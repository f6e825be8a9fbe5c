"""Choose batch sizes that fit into a device's memory, from the plan's estimates."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from adalora import processes
from adalora.backbones.options import DECODERS
from adalora.backbones.outline import Outline
from adalora.config.schema import Config, PlannedTraining, Resolved
from adalora.errors import UserError
from adalora.wording import memory
from tasks.causal.options import LOGITS

# Share of the memory that an estimate may use (ours); libraries and fragmentation need the rest. On a CPU the
# process took 1.1 to 1.8 times its estimate (docs/decoders.md).
ON_GPU, ON_CPU = 0.9, 0.4
CPU = "this machine"
DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and a GPU of Windows under WSL
LARGEST = 512  # rows of an evaluation batch under `auto` (ours): larger ones aren't faster
GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """The device that a run would use."""

    name: str
    memory: int  # bytes, of one process
    processes: int  # processes that share a batch
    share: float = ON_GPU  # of the memory that an estimate may use


def machine(device: str) -> Machine:
    """The device of this machine that `device` (auto, cpu, cuda) selects. Torch, which takes seconds to import, is
    asked for a GPU only where a driver is."""
    count = processes.count()
    if device != "cpu" and (sys.platform != "linux" or any(Path(driver).exists() for driver in DRIVERS)):
        import torch

        if torch.cuda.is_available():
            found = torch.cuda.get_device_properties(processes.local_rank() % torch.cuda.device_count())
            return Machine(found.name, found.total_memory, count)
    return Machine(CPU, psutil.virtual_memory().total // processes.local_count(), count, ON_CPU)


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
    again = "" if training.activation_checkpointing else "set training.activation_checkpointing=true, "

    def rows(parts: int, whole: int = training.batch_size) -> int:
        return -(-whole // parts // here.processes)

    small = [n for n in range(1, math.isqrt(training.batch_size) + 1) if training.batch_size % n == 0]
    divisors = sorted({*small, *(training.batch_size // n for n in small)})
    fits = next((n for n in divisors if needs(rows(n)) <= usable), None)
    micro = training.micro_batches
    if micro == "auto":
        if fits is None:
            raise UserError(
                f"a step of one row needs about {memory(needs(1))}, but {here.name} has {memory(here.memory)}: "
                f"{again}lower task.max_length, or give training.micro_batches"
            )
        micro = fits
        notes.append(f"training.micro_batches=auto: {micro}, for about {memory(needs(rows(micro)))} a pass")
    elif (need := needs(rows(micro))) > usable:
        remedy = f"set training.micro_batches={fits} (or auto)" if fits else f"{again}lower task.max_length"
        notes.append(f"a step may need {memory(need)}, {here.name} has {memory(here.memory)}: {remedy} if it runs out")

    evaluated, most = training.eval_batch_size, largest(here, needs_to_evaluate)
    if evaluated == "auto":
        evaluated = most
        notes.append(f"training.eval_batch_size=auto: {evaluated}")
    elif needs_to_evaluate(rows(1, evaluated)) > usable:
        notes.append(f"an evaluation may need more than {here.name} has: set training.eval_batch_size={most} (or auto)")
    return micro, evaluated, notes


def largest(here: Machine, needs: Callable[[int], float]) -> int:
    """The most rows of an evaluation batch that fit: a power of two up to `LARGEST`, at least 1.

    Args:
        here: the device.
        needs: bytes of an evaluation for a number of rows of one process.
    """
    sizes = [2**n for n in range(LARGEST.bit_length())]
    fitting = [size for size in sizes if needs(-(-size // here.processes)) <= here.share * here.memory]
    return max(fitting, default=1)


def training_memory(config: Resolved, outline: Outline, trained: int, adapted: int, rows: int) -> float:
    """Bytes of a training step with `rows` rows per pass, all at the maximum length.

    Counts the weights; what is trained in fp32, its gradients and two moments; a gradient of the `adapted` weights if
    the method accumulates one; every layer's activations; and a language model's logits. Activation checkpointing keeps
    each layer's input and one whole layer. The paper measured 11.1 GB for LoRA on MNLI and 13.1 on SQuADv2 (Table 15);
    this gives 14.9 and 14.8.
    """
    layers, tokens = outline.num_hidden_layers, config.task.max_length
    layer = layer_memory(config, outline, rows, tokens)
    if config.training.activation_checkpointing:  # each layer's input, and one whole layer
        kept = layers * 4 * rows * tokens * outline.hidden_size + layer
    else:
        kept = layers * layer
    logits = logits_memory(config, outline, rows * tokens)
    whole = 16 - weights_memory(config, outline) // outline.total  # a trained weight is in fp32, whatever `model.dtype`
    gradient = 4 * adapted if config.method.accumulates else 0
    return float(weights_memory(config, outline) + whole * trained + gradient + kept + logits)


def evaluation_memory(config: Config | Resolved, outline: Outline, rows: int) -> float:
    """Bytes of an evaluation with `rows` rows per batch, all at the maximum length.

    Counts the weights, two layers' activations and a language model's logits; generation adds merged weights beside
    them, keys and values of every beam, and the logits."""
    task, decoder = config.task, config.model.model_type in DECODERS
    tokens = task.eval_tokens
    once = min(rows, max(1, LOGITS // (tokens * outline.vocab_size))) if decoder else rows  # likelihoods, of a pass
    total: float = (2 if task.generates else 1) * weights_memory(config, outline)
    total += 2 * layer_memory(config, outline, once, tokens) + logits_memory(config, outline, once * tokens)
    if task.generates is not None:
        beams, length = task.generates
        layers, width = outline.num_hidden_layers, outline.hidden_size
        if decoder:
            width = outline.key_width
        else:
            layers = outline.decoder_layers
        kept = 2 * layers * width * (beams * length + tokens)
        total += 4 * rows * (kept + beams * outline.vocab_size)
    return float(total)


def layer_memory(config: Config | Resolved, outline: Outline, rows: int, tokens: int) -> float:
    """Bytes of one layer's activations that its backward pass needs, b rows of s tokens.

    Encoders: s b h (34 + 5 a s / h) in 16 bits (Korthikanti et al., arXiv 2205.05198, without recomputation), twice
    that in fp32, with DeBERTa's attention scores three times.

    Decoders (ours, with h hidden, q query and i intermediate entries a token): the inputs of both norms in fp32; the
    inputs of the adapted modules, 2 h + q + i; queries, keys and values as repeated for every query head, and their
    result, 4 q; gate, its activation, and up, 3 i. Attention that isn't fused adds its scores twice.
    """
    hidden, heads = outline.hidden_size, outline.num_attention_heads
    width = 2 if config.precision in ("fp32", "tf32") else 1
    if config.model.model_type in DECODERS:
        low = 2 * hidden + 5 * outline.query_width + 4 * outline.intermediate_size
        low += 2 * heads * tokens if config.model.attention == "eager" else 0
        return tokens * rows * (2 * width * low + 4 * 2 * hidden)
    scores = 3 if config.model.model_type == "deberta-v2" else 1
    return width * tokens * rows * hidden * (34 + 5 * scores * heads * tokens / hidden)


def logits_memory(config: Config | Resolved, outline: Outline, tokens: int) -> float:
    """Bytes of a language model's logits, their log-softmax and its gradient in fp32; 0 for other models. In bf16 the
    logits and their gradient exist in bf16, too."""
    if config.model.model_type not in DECODERS:
        return 0.0
    return (12 if config.precision in ("fp32", "tf32") else 16) * tokens * outline.vocab_size


def weights_memory(config: Config | Resolved, outline: Outline) -> int:
    """Bytes of the frozen weights."""
    return (2 if config.model.dtype == "bf16" else 4) * outline.total
