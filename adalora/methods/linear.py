"""A frozen linear map with a trained increment."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.errors import UserError
from adalora.tensors import compute_type, own_dtype

M = TypeVar("M", bound=nn.Module)


class AdaptedLinear(nn.Linear):
    """y = W x + b + increment(x), with W (d_out, d_in) and b (d_out) of the layer it replaces.

    The base keeps its parameter names, so state dicts still fit. `base_only` skips the increment
    (backbones/position_query.py, and `merged` below). `frozen` names parameters of the increment that aren't trained
    but are saved with the adapter.
    """

    frozen: ClassVar[tuple[str, ...]] = ()

    def __init__(self, base: nn.Linear) -> None:
        nn.Module.__init__(self)  # nn.Linear's __init__ would allocate a weight
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.base_only = False
        self.shared: tuple[Any, ...] = ()  # `SharedFactors`, in a tuple so that they don't become a submodule
        self._cast: tuple[Any, Tensor, Tensor | None] | None = None  # the weights, and their cast copies

    def increment(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        raise NotImplementedError

    def delta_weight(self) -> Tensor:
        """The increment as a matrix (d_out, d_in)."""
        raise NotImplementedError

    def low_rank_factors(self) -> tuple[Tensor, Tensor] | None:
        """A (r, d_in) and B (d_out, r) with B A = `delta_weight()` and r >= 0; None if it isn't of low rank."""
        return None

    def base(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """W and b as `dtype`. Frozen ones are cast once; autocast would cast them on every use."""
        W, b = self.weight, self.bias  # noqa: N806
        if W.dtype == dtype or W.requires_grad or (b is not None and b.requires_grad):
            return W.to(dtype), None if b is None else b.to(dtype)
        now = (dtype, W.data_ptr(), W._version, None if b is None else (b.data_ptr(), b._version))
        if self._cast is None or self._cast[0] != now:
            with torch.inference_mode(False), torch.no_grad():
                self._cast = now, W.to(dtype), None if b is None else b.to(dtype)
        return self._cast[1:]

    def forget_cast(self) -> None:
        """Forget the cast copies after W was replaced."""
        self._cast = None

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_type(x)
        x = x.to(dtype)
        y = F.linear(x, *self.base(dtype))
        if self.base_only:
            return y
        # under autocast the increment may have another dtype than the base's output, and DeBERTa's attention can't
        # mix them
        return y + self.increment(x).to(dtype)


class SharedFactors(nn.Module):
    """Computations shared by the increments of many maps. A map refers to it by `shared`; it isn't a submodule.

    The results (`products`) are computed once per forward pass of the model, so that their gradients are summed once.
    Outside a forward pass (in a merge, or if a submodule is called alone) they are computed on each use.
    """

    def __init__(self) -> None:
        super().__init__()
        self._formed: tuple[Tensor, ...] | None = None
        self._last: tuple[Tensor, ...] | None = None
        self.keeps_last = False  # for `again`

    def __getstate__(self) -> dict[str, Any]:
        """Copy without the results of a forward pass: autograd graphs can't be copied."""
        return self.__dict__ | {"_formed": None, "_last": None}

    def products(self) -> tuple[Tensor, ...]:
        """Compute what the maps need."""
        raise NotImplementedError

    def current(self) -> tuple[Tensor, ...]:
        """`products` of the current forward pass."""
        return self.products() if self._formed is None else self._formed

    def join(self, model: nn.Module, name: str | None = None) -> None:
        """Hook into the forward passes of `model`. If this has parameters, it becomes `model.<name>`."""
        self._name = name
        if name is not None:
            model.add_module(name, self)
        self._hooks = (
            model.register_forward_pre_hook(self._form),
            model.register_forward_hook(self._forget, always_call=True),
        )

    def leave(self, model: nn.Module) -> None:
        """Undo `join`."""
        for hook in self._hooks:
            hook.remove()
        if self._name is not None:
            delattr(model, self._name)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Provide the last forward pass's results while checkpointed layers are recomputed in the backward pass."""
        before, self._formed = self._formed, self._last
        try:
            yield
        finally:
            self._formed = before

    def _form(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        self._formed = self.products()
        if self.keeps_last:
            self._last = self._formed

    def _forget(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._formed = None


def replace_modules(model: nn.Module, targets: Mapping[str, nn.Module], build: Callable[[Any], M]) -> dict[str, M]:
    """Replace every target by `build(target)` and return the new modules by path."""
    adapted: dict[str, M] = {}
    for path, base in targets.items():
        parent, _, name = path.rpartition(".")
        adapted[path] = build(base)
        setattr(model.get_submodule(parent), name, adapted[path])
    return adapted


def unmergeable(model: nn.Module) -> str | None:
    """Why the increments can't be merged into the base weights; None if they can.

    A module gives the reason in an attribute `unmergeable`: a bottleneck (methods/houlsby), or a query that is adapted
    for tokens but not for positions (backbones/position_query.py). `model` may be wrapped, for example in
    DistributedDataParallel.
    """
    for name, module in model.named_modules():
        if reason := getattr(module, "unmergeable", None):
            return f"{name} {reason}"
    return None


def merge(model: nn.Module) -> None:
    """Merge every increment into its base weight and restore plain linear maps: W <- W + delta W.

    Raises:
        UserError: a part that can't be merged, with `unmergeable`'s reason.
    """
    maps = adapted_maps(model)
    for path, module in maps.items():
        plain = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
        plain.weight, plain.bias = module.weight, module.bias
        plain.weight.data = folded(module)
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, plain)
    for shared in shared_by(maps.values()):
        shared.leave(model)


def shared_by(maps: Iterable[nn.Module]) -> list["SharedFactors"]:
    """The shared objects of these modules, each once."""
    return list(dict.fromkeys(s for module in maps if isinstance(module, AdaptedLinear) for s in module.shared))


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Temporarily use W + delta W in place of every base weight, which saves the increments' products in evaluation and
    generation. Afterwards every W is restored: the same tensor, and so the same bits.

    The output is equal up to rounding. Dropout on the increments' inputs is skipped, so don't train inside the block.
    It takes a second copy of the adapted weights: in fp32 0.34 GB on DeBERTaV3-base (72 maps), 1.41 GB on BART-large
    (192). A nested `merged` does nothing.

    Raises:
        UserError: a module can't be merged. Check `unmergeable` first, and evaluate unmerged.
    """
    found = [module for module in adapted_maps(model).values() if not module.base_only]
    kept = [module.weight.data for module in found]
    try:
        for module in found:
            module.weight.data = folded(module)
            module.base_only = True
            module.forget_cast()
        yield
    finally:
        for module, weight in zip(found, kept, strict=True):
            module.weight.data = weight
            module.base_only = False
            module.forget_cast()


def adapted_maps(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Every adapted map by path. Raises `UserError` if one can't be merged."""
    check_mergeable(model)
    return {path: module for path, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def folded(module: AdaptedLinear) -> Tensor:
    """W + delta W as a new tensor (d_out, d_in) in W's dtype, regardless of autocast."""
    weight = module.weight
    with torch.inference_mode(False), torch.no_grad(), own_dtype(weight):
        return weight + module.delta_weight().to(weight.dtype)


def check_mergeable(model: nn.Module) -> None:
    """Raise the `UserError` of `merge`."""
    if reason := unmergeable(model):
        raise UserError(reason)
