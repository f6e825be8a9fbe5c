"""A frozen linear layer with a trained increment, and merging."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.errors import UserError
from adalora.methods.tensors import compute_type, own_dtype, trained_dtype

M = TypeVar("M", bound=nn.Module)
Undo = tuple[Callable[[], None], ...]
"""What merging calls besides replacing a module: hooks are removed, shared parameters dropped."""


class AdaptedLinear(nn.Linear):
    """W x + b plus an increment, with the frozen W (d_out, d_in) and b (d_out) of the layer it replaces.

    The base keeps its parameter names, so state dicts still fit. A method defines `forward`, and `delta_weight` for
    merging. `frozen` names parameters of the increment that aren't trained but are saved with the adapter. Merging
    calls `undo`, which takes back what else the method did to the model. By default `adalora/fast` replaces `forward`
    by one that computes the same in less time (`fast=false` keeps this one).
    """

    frozen: ClassVar[tuple[str, ...]] = ()

    def __init__(self, base: nn.Linear) -> None:
        nn.Module.__init__(self)  # nn.Linear's __init__ would allocate a weight
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.undo: Undo = ()

    def zeros(self, *shape: int) -> nn.Parameter:
        """A new parameter on W's device, in W's dtype, or in fp32 if that has fewer bits."""
        return nn.Parameter(self.weight.new_zeros(shape, dtype=trained_dtype(self.weight)))

    @property
    def is_merged(self) -> bool:
        """Whether this is inside of `merged`."""
        return "forward" in vars(self)

    def base(self, x: Tensor) -> Tensor:
        """W x + b: (..., d_in) -> (..., d_out)."""
        return F.linear(x, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """W x + b and the increment: (..., d_in) -> (..., d_out)."""
        raise NotImplementedError

    def delta_weight(self) -> Tensor:
        """The increment as a matrix (d_out, d_in)."""
        raise NotImplementedError

    def low_rank_factors(self) -> tuple[Tensor, Tensor] | None:
        """A (r, d_in) and B (d_out, r) with B A = `delta_weight()` and r >= 0; None if it isn't of low rank."""
        return None


def replace_modules(model: nn.Module, targets: Mapping[str, nn.Module], build: Callable[[Any], M]) -> dict[str, M]:
    """Replace every target by `build(target)` and return the new modules by path."""
    adapted: dict[str, M] = {}
    for path, base in targets.items():
        adapted[path] = build(base)
        model.set_submodule(path, adapted[path])
    return adapted


def unmergeable(model: nn.Module) -> str | None:
    """Why the increments can't be merged into the base weights; None if they can.

    A module gives the reason in an attribute `unmergeable`: a bottleneck (methods/bottleneck.py), or a query that is
    adapted for tokens but not for positions (backbones/position_query.py). `model` may be wrapped, for example in
    DistributedDataParallel.
    """
    for name, module in model.named_modules():
        if reason := getattr(module, "unmergeable", None):
            return f"{name} {reason}"
    return None


def check_mergeable(model: nn.Module) -> None:
    """Raise the `UserError` of `merge`."""
    if reason := unmergeable(model):
        raise UserError(reason)


def merge(model: nn.Module) -> None:
    """Replace every adapted module by a plain one with the weight W + delta W.

    Raises:
        UserError: a module can't be merged; the message says why (`unmergeable`).
    """
    adapted = adapted_modules(model)
    for path, plain in replace_modules(model, adapted, fold).items():
        adapted[path].weight = plain.weight  # so that whoever still has the old module doesn't keep W in memory
    for undo in dict.fromkeys(undo for module in adapted.values() for undo in module.undo):
        undo()


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Compute with W + delta W inside the block, which saves the increments' products in evaluation and generation.
    Parameters and modules stay as they are. Inside an autocast region the merged weights have its dtype, so use them
    inside it only.

    The output is equal up to rounding. Dropout on the increments' inputs is skipped, so don't train inside the block.
    It takes a second copy of the adapted weights: in fp32 0.34 GB on DeBERTaV3-base (72 modules), 1.41 GB on BART-large
    (192). A nested `merged` does nothing.

    Raises:
        UserError: a module can't be merged. Check `unmergeable` first, and evaluate unmerged.
    """
    modules = [module for module in adapted_modules(model).values() if not module.is_merged]
    try:
        for module in modules:
            module.forward = fold(module, compute_type(module.weight)).forward  # type: ignore[assignment, method-assign]
        yield
    finally:
        for module in modules:
            vars(module).pop("forward", None)


def adapted_modules(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Every adapted module by path. Raises `UserError` if one can't be merged."""
    check_mergeable(model)
    return {path: module for path, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def fold(module: AdaptedLinear, dtype: torch.dtype | None = None) -> nn.Linear:
    """A plain module with W + delta W, computed in delta W's dtype regardless of autocast, as `dtype`; None: W's."""
    W, b = module.weight, module.bias
    plain = nn.Linear(module.in_features, module.out_features, b is not None, device="meta")
    with torch.inference_mode(False), torch.no_grad(), own_dtype(W):
        whole = (W + module.delta_weight()).to(dtype or W.dtype)
        plain.weight = nn.Parameter(whole, requires_grad=W.requires_grad)
        plain.bias = b
    return plain
