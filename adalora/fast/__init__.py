"""What makes a model faster without changing what it computes. A reader of the methods needs nothing from here.

Each piece says what it replaces, and is tested to be equal to it.
"""

from collections.abc import Mapping

from torch import nn

from adalora.fast import attention, dropout, maps
from adalora.fast.together import METHODS, FormedFactors, FormedProducts, Together
from adalora.methods.protocol import Method

Swaps = Mapping[type, type]
"""Classes, and the subclasses that take their place."""
TOGETHER: Mapping[type, type[Together]] = dict.fromkeys(maps.FORMED.values(), FormedFactors) | {
    maps.FastLoRTALinear: FormedProducts
}
"""Maps that share results, and what computes them."""


def speed_up(model: nn.Module, method: Method, exact_attention: bool = True) -> None:
    """Compute the same in less time. Call it after `method.attach`, and before `bypass_position_query`.

    Args:
        model: the model with the method attached.
        method: the method.
        exact_attention: replace DeBERTa's attention too, and compute a classifier's last layer for one token.
    """
    swap(model, maps.SWAPS | dropout.SWAPS)
    if exact_attention:
        swap(model, attention.SWAPS)
        if not method.reads_inputs:
            attention.read_first_token_only(model)
    modules = getattr(method, "modules", {})
    shared = TOGETHER.get(type(next(iter(modules.values()), None)))
    if shared is not None:
        method.together = shared(model, modules)  # type: ignore[attr-defined]
        method.__class__ = METHODS.get(type(method), type(method))


def swap(model: nn.Module, swaps: Swaps) -> None:
    """Give the modules of `model` their subclasses. Names, parameters and state stay."""
    for module in model.modules():
        module.__class__ = swaps.get(type(module), type(module))
