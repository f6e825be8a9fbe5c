"""Inject a PEFT tuner into given modules, and count what it trains."""

import functools
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from peft import PEFT_TYPE_TO_TUNER_MAPPING, PeftType
from torch import nn

from adalora.errors import UserError
from adalora.methods.options import Shapes
from adalora.methods.peft.tuners import REFUSALS, TUNERS, reason, tuner_config

ADAPTER = "default"  # PEFT's name for the one adapter


def inject(kind: str, config: Mapping[str, Any], model: nn.Module, targets: Sequence[str], total_steps: int) -> Any:
    """Inject a tuner into `targets` in place and return PEFT's wrapper. Raises `UserError` with PEFT's reason."""
    options = tuner_config(kind, config, targets, total_steps)
    try:
        tuner = PEFT_TYPE_TO_TUNER_MAPPING[PeftType(kind)](model, options, ADAPTER)
    except REFUSALS as error:
        raise UserError(f"method.type={kind}: {reason(error)}") from error
    if kind == "ADALORA":
        for path in targets:  # its constant divisor, which PEFT unfreezes when it converts dtype or device
            model.get_submodule(path).get_parameter(f"ranknum.{ADAPTER}").requires_grad_(False)
    return tuner


@functools.lru_cache(maxsize=256)  # the budget solver asks for many sizes, some twice
def trained_parameters(kind: str, options: str, shapes: tuple[tuple[str, tuple[int, int]], ...]) -> int:
    """Count what a tuner trains on modules of these shapes; `options` is JSON.

    Modules of equal shape cost the same, so only one per shape is injected, unless the tuner shares parameters.
    """
    alone = {shape: path for path, shape in shapes}
    paths = [path for path, _ in shapes] if TUNERS[kind].shared else list(alone.values())
    tree = blank_modules({path: shape for path, shape in shapes if path in set(paths)})
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # the real injection repeats these warnings
        inject(kind, json.loads(options), tree, paths, total_steps=2**31)
    if TUNERS[kind].shared:
        return trained(tree)
    each = {shape: trained(tree.get_submodule(path)) for shape, path in alone.items()}
    return sum(each[shape] for _, shape in shapes)


def trained(module: nn.Module) -> int:
    """Number of trained parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def blank_modules(shapes: Shapes) -> nn.Module:
    """A module with linear layers on the meta device at these paths."""
    root = nn.Module()
    for path, (d_out, d_in) in shapes.items():
        *parents, name = path.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.add_module(name, nn.Linear(d_in, d_out, device="meta"))
    return root.requires_grad_(False)
