"""Any tuner of the PEFT library that adapts given linear maps, in the suite's loop.

The maps, the head, the budget and the schedule are the suite's; the maths is PEFT's, with PEFT's
defaults where `method.config` says nothing (docs/deviations.md: D-peft). Parameters are counted by
injecting the tuner into maps without weights.

PEFT's AdaLoRA has its allocator called where its documentation says, after the optimizer's step and
before zero_grad, with t from 0 (D-peft-t). Its orthogonality term sits in the forward of a wrapper that
this loop doesn't use, and is computed here, with the same value: orth_reg_weight times

    R = mean over the 2n matrices of || A A^T - I ||_F and || B^T B - I ||_F.

Its averages and its rank pattern, which PEFT doesn't save, are part of the checkpoint.
"""

import functools
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from peft import PEFT_TYPE_TO_TUNER_MAPPING, PeftType
from torch import Tensor, nn

from adalora.config.methods import PEFTConfig
from adalora.config.methods.peft import REFUSALS, TUNERS, reason
from adalora.errors import UserError
from adalora.methods.adalora import gram_distance
from adalora.methods.linear import check_mergeable
from adalora.methods.protocol import Count, Method, Shapes

ADAPTER = "default"  # PEFT's name for the one adapter


class PEFT(Method):
    """A tuner of PEFT."""

    def __init__(self, config: PEFTConfig) -> None:
        self.config: Any = config
        self.kind = TUNERS[config.type]
        self.adaptive = config.type == "ADALORA"
        self.budget = 0

    # -- budget

    def size(self, shapes: Shapes) -> int | None:
        value = self.config.config.get(self.kind.knob)
        if value is None:
            return None
        sizes = self.kind.sizes(shapes)
        if value not in sizes:
            some = ", ".join(map(str, sizes[:12])) + (f", ... {sizes[-1]}" if len(sizes) > 12 else "")
            raise UserError(f"method.config.{self.kind.knob}={value}: on these maps allowed are {some}")
        return sizes.index(value) + 1

    def sized(self, size: int, shapes: Shapes) -> PEFTConfig:
        """The size-th value of the knob, or its last; for ADALORA the initial rank is 1.5 times the
        target as for ours, and the target below the initial rank where that is given."""
        sizes = self.kind.sizes(shapes)
        if not sizes:
            raise UserError(f"method.type={self.config.type}: no {self.kind.knob} fits all of these maps")
        options = self.config.config | {self.kind.knob: sizes[min(size, len(sizes)) - 1]}
        if self.adaptive:
            target = options["target_r"]
            options = {"init_r": max(2, math.ceil(1.5 * target))} | options
            options["target_r"] = min(target, options["init_r"] - 1)
        return replace(self.config, config=options)

    def count(self, shapes: Shapes) -> Count:
        """ADALORA keeps target_r / init_r of what it trains, wherever that lies."""
        options = json.dumps(self.config.config, sort_keys=True)
        peak = trained_parameters(self.config.type, options, tuple(shapes.items()))
        if not self.adaptive:
            return Count(peak, peak)
        return Count(peak, peak * self.config.config["target_r"] // self.config.config["init_r"])

    def describe(self) -> str:
        options = self.config.config
        if self.adaptive:
            return f"ADALORA, rank {options['init_r']} -> {options['target_r']}"
        return ", ".join([self.config.type, *(f"{name} {value}" for name, value in options.items())])

    # -- training

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        self.tuner = inject(self.config, model, list(targets), total_steps)
        self.layers: dict[str, Any] = {path: model.get_submodule(path) for path in targets}
        self.options = self.tuner.peft_config[ADAPTER]
        if self.adaptive:
            layers = self.layers.values()
            self.A = alike([layer.lora_A[ADAPTER] for layer in layers])
            self.B = alike([layer.lora_B[ADAPTER] for layer in layers])
            self.allocator = self.tuner.rankallocator
            self.budget = self.allocator.init_bgt

    def regulariser(self) -> Tensor:
        if not self.adaptive or self.options.orth_reg_weight == 0:
            return torch.zeros(())
        norms = [gram_distance(torch.stack(group)) for group in self.A]
        norms += [gram_distance(torch.stack(group).mT) for group in self.B]
        return self.options.orth_reg_weight * torch.cat(norms).mean()

    def after_step(self, t: int) -> None:
        if self.adaptive:
            self.tuner.update_and_allocate(t)
            self.budget = self.allocator.budget_schedule(t)[0]

    # -- results and resumption

    def ranks(self) -> dict[str, int]:
        if self.adaptive:
            pattern = self.options.rank_pattern
            return {
                path: sum(pattern[f"{path}.lora_E.{ADAPTER}"]) if pattern else layer.r[ADAPTER]
                for path, layer in self.layers.items()
            }
        if self.config.type == "LORA":
            return {path: layer.r[ADAPTER] for path, layer in self.layers.items()}
        return {}

    def kept(self) -> int | None:
        if not self.adaptive:
            return None
        return sum(
            rank * (layer.in_features + layer.out_features + 1)
            for rank, layer in zip(self.ranks().values(), self.layers.values(), strict=True)
        )

    def metrics(self) -> dict[str, Tensor | float]:
        return {"budget": float(self.budget)} if self.adaptive else {}

    def merge(self, model: nn.Module) -> None:
        check_mergeable(model)
        try:
            self.tuner.merge_and_unload(progressbar=False)
        except NotImplementedError as error:
            raise UserError(f"PEFT can't merge {self.config.type}: keep the adapter beside the base") from error

    def state_dict(self) -> dict[str, Tensor]:
        if not self.adaptive:
            return {}
        state = {f"sensitivity.{name}": value for name, value in self.allocator.exp_avg_ipt.items()}
        state |= {f"uncertainty.{name}": value for name, value in self.allocator.exp_avg_unc.items()}
        pattern = self.options.rank_pattern or {}
        return state | {f"pattern.{name}": torch.tensor(kept) for name, kept in pattern.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if not self.adaptive:
            return
        device = self.A[0][0].device
        parts: dict[str, dict[str, Tensor]] = {"sensitivity": {}, "uncertainty": {}, "pattern": {}}
        for key, value in state.items():
            section, _, name = key.partition(".")
            parts[section][name] = value.to(device)
        self.allocator.exp_avg_ipt, self.allocator.exp_avg_unc = parts["sensitivity"], parts["uncertainty"]
        # of the last step, and overwritten by the next; PEFT takes its presence as a sign that the averages exist
        self.allocator.ipt = {name: torch.zeros_like(value) for name, value in parts["sensitivity"].items()}
        if parts["pattern"]:
            self.options.rank_pattern = {name: kept.tolist() for name, kept in parts["pattern"].items()}


def inject(config: PEFTConfig, model: nn.Module, targets: Sequence[str], total_steps: int) -> Any:
    """Put a tuner on `targets` in place; returns PEFT's object around it. Raises `UserError` with PEFT's reason."""
    options = config.options(targets, total_steps)
    try:
        tuner = PEFT_TYPE_TO_TUNER_MAPPING[PeftType(config.type)](model, options, ADAPTER)
    except REFUSALS as error:
        raise UserError(f"method.type={config.type}: {reason(error)}") from error
    if config.type == "ADALORA":
        for path in targets:  # its constant divisor, which PEFT unfreezes where it converts type or device
            model.get_submodule(path).get_parameter(f"ranknum.{ADAPTER}").requires_grad_(False)
    return tuner


@functools.lru_cache(maxsize=256)  # the budget's solver asks for many sizes, some of them twice
def trained_parameters(kind: str, options: str, shapes: tuple[tuple[str, tuple[int, int]], ...]) -> int:
    """What a tuner trains on maps of these shapes; `options` as JSON.

    Maps of one shape cost the same, so one of each is injected, but for tuners that share parameters.
    """
    alone = {shape: path for path, shape in shapes}
    paths = [path for path, _ in shapes] if TUNERS[kind].shared else list(alone.values())
    tree = blank_maps({path: shape for path, shape in shapes if path in set(paths)})
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # they come again with the real thing
        inject(PEFTConfig(type=kind, config=json.loads(options)), tree, paths, total_steps=2**31)
    if TUNERS[kind].shared:
        return trained(tree)
    each = {shape: trained(tree.get_submodule(path)) for shape, path in alone.items()}
    return sum(each[shape] for _, shape in shapes)


def trained(module: nn.Module) -> int:
    """Trained parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def blank_maps(shapes: Shapes) -> nn.Module:
    """Linear maps without weights at these paths."""
    root = nn.Module()
    for path, (d_out, d_in) in shapes.items():
        *parents, name = path.split(".")
        place = root
        for parent in parents:
            if not hasattr(place, parent):
                place.add_module(parent, nn.Module())
            place = place.get_submodule(parent)
        place.add_module(name, nn.Linear(d_in, d_out, device="meta"))
    return root.requires_grad_(False)


def alike(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Groups of equal shape."""
    groups: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.shape, []).append(parameter)
    return list(groups.values())


METHOD = PEFT
