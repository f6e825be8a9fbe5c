"""Results that many maps share, computed once per forward pass of the model, so that their gradients are summed once.

Outside a forward pass (in a merge, or if a submodule is called alone) each map computes its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from torch import nn

from adalora.methods.linear import AdaptedLinear

M = TypeVar("M", bound=AdaptedLinear)
R = TypeVar("R")  # the results


class Together(Generic[M, R]):
    """What `modules`, all maps of `model`, compute together. Each refers to it as `together`."""

    def __init__(self, model: nn.Module, modules: Mapping[str, M]) -> None:
        self.modules = list(modules.values())
        self.first = next(iter(modules))
        self.current: R | None = None  # of the current forward pass
        self.last: R | None = None  # of the last one, for `again`
        hooks = (
            model.register_forward_pre_hook(self.start_pass),
            model.register_forward_hook(self.end_pass, always_call=True),
        )
        for module in self.modules:
            module.together = self  # type: ignore[assignment]
            module.undo += tuple(hook.remove for hook in hooks)

    def __getstate__(self) -> dict[str, Any]:
        """Copy without results: autograd graphs can't be copied."""
        return self.__dict__ | {"current": None, "last": None}

    def results(self) -> R:
        """What the maps share."""
        raise NotImplementedError

    def start_pass(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Forward pre-hook of the model. It does nothing while the maps are merged."""
        if model.get_submodule(self.first) is self.modules[0]:
            self.current = self.last = self.results()

    def end_pass(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Forward hook of the model."""
        self.current = None


def shared_by(model: nn.Module) -> list[Together[Any, Any]]:
    """What the maps of `model` compute together."""
    return list(dict.fromkeys(found for m in model.modules() if (found := getattr(m, "together", None)) is not None))


@contextmanager
def again(shared: Sequence[Together[Any, Any]]) -> Iterator[None]:
    """Provide the last forward pass's results while checkpointed layers are recomputed in the backward pass."""
    before = [each.current for each in shared]
    for each in shared:
        each.current = each.last
    try:
        yield
    finally:
        for each, current in zip(shared, before, strict=True):
            each.current = current
