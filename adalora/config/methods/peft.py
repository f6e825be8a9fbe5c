"""Options of PEFT's tuners, and what the suite must know of each.

A tuner's own options are those of its PEFT config class, checked against it. Torch and PEFT are
imported only once such a method is chosen.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from adalora.config.methods.base import PlacedConfig, nearest, require
from adalora.errors import UserError

Shapes = Mapping[str, tuple[int, int]]  # target path -> (d_out, d_in)
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
    """Up to the smallest side of a map."""
    return range(1, min(map(min, shapes.values())) + 1)


def entries(shapes: Shapes) -> Sequence[int]:
    """Up to the entries of the smallest map."""
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
    """`knob` sets the size; None: there is no choice. `sizes` are its values, fewest parameters first.

    `shared`: some parameters serve several maps, so that a count needs all maps at once.
    `defaults`: options that PEFT would otherwise take from a list of architectures.
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
"""PEFT's tuners that adapt given linear maps, that count without weights and that repeat to the bit."""

OURS = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern",
    "target_parameters", "trainable_token_indices", "layer_replication", "rank_pattern", "n_frequency_pattern",
    "block_size_pattern", "bias", "feedforward_modules", "total_step", "runtime_config", "megatron_config",
    "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
}  # fmt: skip
"""Options that the suite sets (what is adapted, the head, T), or that would change more than the maps."""

INITIAL = (True, False, "gaussian", "orthogonal")  # of LoRA: the others change the base or need data
REFUSALS = (ValueError, TypeError, KeyError, AttributeError, AssertionError, ImportError, RuntimeError)
"""What PEFT raises where it can't build what is asked for (NotImplementedError is a RuntimeError)."""


@dataclass
class PEFTConfig(PlacedConfig):
    """A tuner of PEFT by name, `config` its options; the size is solved from the budget unless it is there."""

    name: str = "peft"
    type: str = "LORA"
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.type = self.type.upper()
        require(
            self.type in TUNERS,
            f"method.type={self.type}: not a PEFT tuner of linear maps, allowed are {nearest(self.type, TUNERS)}",
        )
        hints = get_type_hints(config_class(self.type))
        known = [name for name in hints if name not in OURS]
        for name, value in self.config.items():
            require(name not in OURS, f"method.config.{name} is the suite's to set: leave it out")
            require(name in hints, f"there is no option method.config.{name}: {self.type} has {nearest(name, known)}")
            require(fits(value, hints[name]), f"method.config.{name}={value}: must be {written(hints[name])}")
        initial = self.config.get("init_lora_weights", True)
        require(
            initial in INITIAL,
            f"method.config.init_lora_weights={initial}: allowed are {', '.join(map(str, INITIAL))}; "
            "the others change the base's weights or need data",
        )
        if self.type == "ADALORA":
            self.check_allocation()
        self.options(["x"], total_steps=2**31)

    def check_allocation(self) -> None:
        """PEFT's allocator fails, late and bare, where nothing is to be pruned or an average has no memory."""
        options = self.config
        initial, target = options.get("init_r"), options.get("target_r")
        require(initial is None or initial >= 2, f"method.config.init_r={initial}: at least 2 is needed")
        require(target is None or target >= 1, f"method.config.target_r={target}: at least 1 is needed")
        require(
            initial is None or target is None or target < initial,
            f"method.config.target_r={target} must be less than method.config.init_r={initial}: "
            "PEFT's AdaLoRA can't run without pruning (method=adalora can)",
        )
        for key in ("beta1", "beta2"):
            value = options.get(key, 0.85)
            require(0 < value < 1, f"method.config.{key}={value}: must lie in (0, 1)")
        for key, least in {"deltaT": 1, "tinit": 0, "tfinal": 0}.items():
            value = options.get(key, least)
            require(value >= least, f"method.config.{key}={value}: at least {least} is needed")

    @property
    def has_budget(self) -> bool:
        return TUNERS[self.type].knob is not None

    def planned(self, total_steps: int) -> Self:
        """For ADALORA tinit = 15 % and tfinal = 45 % of T where nothing else is said, as for ours."""
        if self.type != "ADALORA":
            return self
        steps = {"tinit": int(0.15 * total_steps), "tfinal": int(0.45 * total_steps)} | self.config
        require(
            steps["tinit"] + steps["tfinal"] < total_steps,
            f"method.config.tinit={steps['tinit']} + method.config.tfinal={steps['tfinal']} leave none of the "
            f"{total_steps} training steps for pruning: lower them or train longer",
        )
        return replace(self, config=steps)

    def options(self, targets: Sequence[str], total_steps: int) -> Any:
        """The PEFT config for these targets. Raises `UserError` with PEFT's own reason."""
        values = {**TUNERS[self.type].defaults, **self.config, "target_modules": list(targets)}
        if self.type == "ADALORA":
            values["total_step"] = total_steps
        try:
            return config_class(self.type)(**values)
        except REFUSALS as error:
            raise UserError(f"method.type={self.type}: {reason(error)}") from error


def config_class(kind: str) -> type:
    """PEFT's config class of a tuner."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType  # seconds, so only where it is used

    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]


def fits(value: Any, hint: Any) -> bool:
    """Whether a value has the annotated type; what is in a list or dict is PEFT's to check."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return hint is Any or isinstance(value, origin or hint)


def written(hint: Any) -> str:
    """A type in words: `int`, `bool or gaussian`, `list or null`."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(written(part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    return "null" if hint is NoneType else (get_origin(hint) or hint).__name__


def reason(error: Exception) -> str:
    """PEFT's complaint in one line."""
    return " ".join(str(error).split()) or type(error).__name__
