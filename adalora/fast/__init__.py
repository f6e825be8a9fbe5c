"""What makes a model faster. To understand the methods you needn't read anything here.

Each piece says what it replaces, and is tested to be equal to it up to rounding. Two things differ: dropout draws other
masks, and a classifier's last hidden state has the first token only.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from adalora.fast import attention, dropout, linear
from adalora.fast.together import FormedFactors, FormedProducts, Together
from adalora.methods.adalora.layer import AdaLoRA
from adalora.methods.lora.layer import LoRA
from adalora.methods.protocol import Method

Swaps = Mapping[type, type]
"""Classes, and the subclasses that take their place."""
TOGETHER: Mapping[type, type[Together]] = dict.fromkeys(linear.FORMED.values(), FormedFactors) | {
    linear.FastLoRTALinear: FormedProducts
}
"""Modules that share results, and what computes them."""
REUSING = (AdaLoRA, LoRA)
"""Methods whose regulariser reuses the factors of the forward pass."""


def speed_up(model: nn.Module, method: Method, exact_attention: bool = True) -> None:
    """Compute the same in less time. Call it after `method.attach`, and before `recompute_activations`.

    Args:
        model: the model with the method attached.
        method: the method.
        exact_attention: replace DeBERTa's attention too, and compute a classifier's last layer for one token.
    """
    swap(model, linear.SWAPS | dropout.SWAPS)
    if exact_attention:
        swap(model, attention.SWAPS)
        if not method.reads_inputs:
            attention.read_first_token_only(model)
    sharing: dict[type[Together], list[nn.Module]] = {}
    for module in model.modules():
        if type(module) in TOGETHER and module.together is None:
            sharing.setdefault(TOGETHER[type(module)], []).append(module)
    for kind, modules in sharing.items():
        if type(method) in REUSING:
            own: Any = method
            own.together = kind(model, list(own.modules.values()))  # in its order, in which a regulariser sums
            own.factors = own.together.stacks
        else:
            kind(model, modules)


def swap(model: nn.Module, swaps: Swaps) -> None:
    """Give the modules of `model` their subclasses. Names, parameters and state stay."""
    for module in model.modules():
        module.__class__ = swaps.get(type(module), type(module))
