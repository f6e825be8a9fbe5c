"""PEFT's tuners: what the suite needs to know about each, and their configs. Imports PEFT only when needed."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from adalora.errors import UserError
from adalora.methods.options import Shapes

Sizes = Callable[[Shapes], Sequence[int]]


def every(shapes: Shapes) -> Sequence[int]:
    """Any positive number."""
    return range(1, 2**31)


def even(shapes: Shapes) -> Sequence[int]:
    """Any positive even number."""
    return range(2, 2**31, 2)


def inputs(shapes: Shapes) -> Sequence[int]:
    """Up to the smallest d_in."""
    return range(1, min(d_in for _, d_in in shapes.values()) + 1)


def sides(shapes: Shapes) -> Sequence[int]:
    """1 to the smallest side of any module."""
    return range(1, min(map(min, shapes.values())) + 1)


def entries(shapes: Shapes) -> Sequence[int]:
    """1 to the number of entries of the smallest module."""
    return range(1, min(d_out * d_in for d_out, d_in in shapes.values()) + 1)


def input_blocks(shapes: Shapes) -> Sequence[int]:
    """Block sizes that divide every d_in."""
    return divisors(d_in for _, d_in in shapes.values())[1:]


def fewer_blocks(shapes: Shapes) -> Sequence[int]:
    """Block sizes (ranks of a basis) that divide every side; the largest has the fewest parameters."""
    return divisors(side for shape in shapes.values() for side in shape)[::-1]


def divisors(numbers: Iterable[int]) -> list[int]:
    """Common divisors in order."""
    common = math.gcd(*numbers)
    return [n for n in range(1, common + 1) if common % n == 0]


@dataclass(frozen=True)
class Tuner:
    """A tuner. `knob` is the option that sets the size, None for a fixed size; `sizes` are its values, fewest
    parameters first.

    `shared`: modules share parameters, so a count needs all modules at once.
    `defaults`: options that PEFT would otherwise look up by architecture.
    """

    knob: str | None = "r"
    sizes: Sizes = every
    shared: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


TUNERS: dict[str, Tuner] = {
    "ADALORA": Tuner("target_r"),
    "BEFT": Tuner(None),
    "BOFT": Tuner("boft_block_size", input_blocks),
    "C3A": Tuner("block_size", fewer_blocks),
    "DEFT": Tuner(sizes=sides),
    "DELORA": Tuner(),
    "FOURIERFT": Tuner("n_frequency", entries),
    "GLORA": Tuner(),
    "GRALORA": Tuner(sizes=even),
    "HIRA": Tuner(),
    "HRA": Tuner(sizes=inputs),
    "IA3": Tuner(None, defaults={"feedforward_modules": []}),
    "LILY": Tuner(shared=True),
    "LOHA": Tuner(),
    "LOKR": Tuner(),
    "LORA": Tuner(),
    "MISS": Tuner(sizes=inputs),
    "OFT": Tuner("oft_block_size", input_blocks),
    "PEANUT": Tuner(),
    "PSOFT": Tuner(sizes=lambda shapes: sides(shapes)[1:]),
    "PVERA": Tuner(),
    "RANDLORA": Tuner(sizes=fewer_blocks),
    "ROAD": Tuner(None),
    "UNILORA": Tuner("theta_d_length", shared=True),
    "VBLORA": Tuner("num_vectors", lambda shapes: every(shapes)[1:], shared=True),
    "VERA": Tuner(),
    "WAVEFT": Tuner("n_frequency", entries),
}
"""The PEFT tuners that adapt given linear layers, can be counted on the meta device, and repeat to the bit."""

OURS = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern",
    "target_parameters", "trainable_token_indices", "layer_replication", "rank_pattern", "n_frequency_pattern",
    "block_size_pattern", "bias", "feedforward_modules", "total_step", "runtime_config", "megatron_config",
    "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
}  # fmt: skip
"""Options set by the suite (targets, head, T), or that would change more than the modules."""

INITIAL = (True, False, "gaussian", "orthogonal")  # for LoRA; the others change the base or need data
REFUSALS = (ValueError, TypeError, KeyError, AttributeError, AssertionError, ImportError, RuntimeError)
"""Exceptions that PEFT raises for impossible options (NotImplementedError is a RuntimeError)."""


def config_class(kind: str) -> type:
    """PEFT's config class of a tuner."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType  # takes seconds, so imported only when used

    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]


def tuner_config(kind: str, config: Mapping[str, Any], targets: Sequence[str], total_steps: int) -> Any:
    """PEFT's config of a tuner for these targets. Raises `UserError` with PEFT's reason."""
    values = {**TUNERS[kind].defaults, **config, "target_modules": list(targets)}
    if kind == "ADALORA":
        values["total_step"] = total_steps
    try:
        return config_class(kind)(**values)
    except REFUSALS as error:
        raise UserError(f"method.type={kind}: {reason(error)}") from error


def mismatch(value: Any, hint: Any) -> str:
    """Why a value doesn't have the annotated type, from pydantic; empty if it does."""
    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        return "; or ".join(dict.fromkeys(each["msg"].removeprefix("Input ") for each in error.errors()))
    return ""


def reason(error: Exception) -> str:
    """PEFT's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__
