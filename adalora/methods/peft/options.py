"""Options of PEFT's tuners.

A tuner's options are those of its PEFT config class, and are checked against it. Torch and PEFT are imported only when
such a method is chosen.
"""

import json
import math
from dataclasses import dataclass, replace
from typing import Any, Self, get_type_hints

from adalora.errors import UserError
from adalora.methods.options import Count, PlacedConfig, Shapes
from adalora.methods.peft.tuners import INITIAL, OURS, TUNERS, config_class, mismatch, tuner_config
from adalora.options import instead, option, require


@dataclass
class PEFTConfig(PlacedConfig):
    """A PEFT tuner by name, with its options in `config`; the size is solved from the budget unless set there."""

    name: str = "peft"
    type: str = option("LORA", help="PEFT's name of the tuner; a wrong one lists all")
    config: dict[str, Any] = option(
        {},
        help="options of PEFT's config class, else its defaults; the one that sets the size (r, n_frequency, ...) is "
        "solved from the budget unless given here",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.type, every = self.type.upper(), ", ".join(TUNERS)
        require(
            self.type in TUNERS,
            f"method.type={self.type}: not a PEFT tuner of linear layers: "
            f"{instead(self.type, TUNERS, f'all are {every}')}",
        )
        hints = get_type_hints(config_class(self.type))
        known = [name for name in hints if name not in OURS]
        listed = f"{self.type} has {', '.join(known)}"
        for name, value in self.config.items():
            require(name not in OURS, f"method.config.{name} is the suite's to set: leave it out")
            require(name in hints, f"there is no option method.config.{name}: {instead(name, known, listed)}")
            require(not (wrong := mismatch(value, hints[name])), f"method.config.{name}={value}: {wrong}")
        initial = self.config.get("init_lora_weights", True)
        require(
            initial in INITIAL,
            f"method.config.init_lora_weights={initial}: allowed are {', '.join(map(str, INITIAL))}; "
            "the others change the base's weights or need data",
        )
        if self.adaptive:
            self.check_allocation()
        tuner_config(self.type, self.config, ["x"], total_steps=2**31)  # raises for options that PEFT rejects

    def check_allocation(self) -> None:
        """Reject what makes PEFT's allocator fail late: nothing to prune, or an average without memory."""
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
        for key, least in {"deltaT": 1, "tinit": 0, "tfinal": 0, "orth_reg_weight": 0}.items():
            value = options.get(key, least)
            require(value >= least, f"method.config.{key}={value}: at least {least} is needed")

    @property
    def adaptive(self) -> bool:
        return self.type == "ADALORA"

    @property
    def has_budget(self) -> bool:
        return TUNERS[self.type].knob is not None

    def size(self, shapes: Shapes) -> int | None:
        kind = TUNERS[self.type]
        value = self.config.get(kind.knob or "")
        if value is None:
            return None
        sizes = kind.sizes(shapes)
        if value not in sizes:
            some = ", ".join(map(str, sizes[:12])) + (f", ... {sizes[-1]}" if len(sizes) > 12 else "")
            raise UserError(f"method.config.{kind.knob}={value}: on these modules allowed are {some}")
        return sizes.index(value) + 1

    def with_size(self, size: int, shapes: Shapes) -> Self:
        """The size-th value of the knob, at most its last. For ADALORA the initial rank is 1.5 times the target, as in
        ours; if it is set, the target stays below it."""
        kind = TUNERS[self.type]
        sizes = kind.sizes(shapes)
        if not sizes or kind.knob is None:
            raise UserError(f"method.type={self.type}: no {kind.knob} fits all of these modules")
        options = self.config | {kind.knob: sizes[min(size, len(sizes)) - 1]}
        if self.adaptive:
            target = options["target_r"]
            options = {"init_r": max(2, math.ceil(1.5 * target))} | options
            options["target_r"] = min(target, options["init_r"] - 1)
        return replace(self, config=options)

    def count(self, shapes: Shapes) -> Count:
        """Count what PEFT trains. ADALORA's kept count is target_r / init_r of its peak, rounded down."""
        from adalora.methods.peft.injection import trained_parameters  # imports torch and PEFT, which takes seconds

        peak = trained_parameters(self.type, json.dumps(self.config, sort_keys=True), tuple(shapes.items()))
        return Count(peak, peak * self.config["target_r"] // self.config["init_r"] if self.adaptive else peak)

    def describe(self) -> str:
        if self.adaptive:
            return f"ADALORA, rank {self.config['init_r']} -> {self.config['target_r']}"
        return ", ".join([self.type, *(f"{name} {value}" for name, value in self.config.items())])

    def with_steps(self, total_steps: int) -> Self:
        """For ADALORA, default to tinit = 15 % and tfinal = 45 % of T, as in ours."""
        if not self.adaptive:
            return self
        steps = {"tinit": int(0.15 * total_steps), "tfinal": int(0.45 * total_steps)} | self.config
        require(
            steps["tinit"] + steps["tfinal"] < total_steps,
            f"method.config.tinit={steps['tinit']} + method.config.tfinal={steps['tfinal']} leave none of the "
            f"{total_steps} training steps for pruning: lower them or train longer",
        )
        return replace(self, config=steps)


OPTIONS = PEFTConfig
