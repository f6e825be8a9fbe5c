"""Results that many modules share, computed once per forward pass, so that their gradients are summed once.

Outside a forward pass (in a merge, or if a submodule is called alone) each module computes its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from adalora.methods.low_rank import by_shape, stacks
from adalora.methods.tensors import compute_type

Pairs = list[tuple[Tensor, Tensor]]


class Together:
    """What `modules`, all modules of `model`, compute together. Each refers to it as `together`."""

    def __init__(self, model: nn.Module, modules: Sequence[Any]) -> None:
        self.modules = modules
        self.current: Any = None  # results of the current forward pass
        self.last: Any = None  # of the last one with a graph, for `again`
        hooks = (
            model.register_forward_pre_hook(self.start_pass),
            model.register_forward_hook(self.end_pass, always_call=True),
        )
        for index, module in enumerate(self.modules):
            module.together, module.index = self, index
            module.undo += tuple(hook.remove for hook in hooks)

    def __getstate__(self) -> dict[str, Any]:
        """Copy without results: autograd graphs can't be copied."""
        return self.__dict__ | dict.fromkeys(("current", "last", "kept"))

    def results(self) -> Any:
        """What the modules share."""
        raise NotImplementedError

    def start_pass(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Forward pre-hook of the model. It does nothing while the modules are merged."""
        if not self.modules[0].is_merged:
            self.current = self.results()
            if torch.is_grad_enabled():
                self.last = self.current

    def end_pass(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Forward hook of the model."""
        self.current = None


class FormedProducts(Together):
    """LoRTA's K and s c_lm."""

    def results(self) -> tuple[Tensor, Tensor]:
        return self.modules[0].shared[0].products()


class FormedFactors(Together):
    """The factors of every module, in a few operations per shape."""

    kept: Any = None  # the last pass's stacks, and when they were made

    def __init__(self, model: nn.Module, modules: Sequence[Any]) -> None:
        super().__init__(model, modules)
        self.groups = by_shape(modules)

    def results(self) -> Pairs:
        """In the dtype of the products."""
        found = stacks(self.groups)
        self.kept = self.now(), found
        pairs: Pairs = [(Tensor(), Tensor())] * len(self.modules)
        for group, (A, B) in zip(self.groups, found, strict=True):
            scales = [module.scale for module in group]
            factor: Any = scales[0] if len(set(scales)) == 1 else A.new_tensor(scales)[:, None, None]
            if diagonals := [d for module in group if (d := module.slots()[1]) is not None]:
                factor = torch.stack(diagonals).reshape(len(A), -1, 1) * factor
            dtype = compute_type(A)
            for module, *pair in zip(group, (A * factor).to(dtype).unbind(), B.to(dtype).unbind(), strict=True):
                pairs[module.index] = (pair[0], pair[1])
        return pairs

    def stacks(self) -> Pairs:
        """`lora_A` (m, r, d_in) and `lora_B` (m, d_out, r) of each shape, for a regulariser.

        Those of the last forward pass, so that gradients are summed once. New ones if a parameter has changed since,
        the pass kept no graph, or they were used before: a graph lasts for one backward pass.
        """
        kept, self.kept = self.kept, None
        if kept is not None and kept[0] == self.now() and kept[1][0][0].requires_grad == torch.is_grad_enabled():
            return kept[1]
        return stacks(self.groups)

    def now(self) -> list[tuple[int, int]]:
        """Address and version of every `lora_A` and `lora_B`; differs once any of them has changed."""
        return [(p.data_ptr(), p._version) for m in self.modules for p in (m.lora_A, m.lora_B)]


def shared_by(model: nn.Module) -> list[Together]:
    """The `Together` objects of a model's modules, each once."""
    return list(dict.fromkeys(found for m in model.modules() if (found := getattr(m, "together", None)) is not None))


@contextmanager
def again(shared: Sequence[Together]) -> Iterator[None]:
    """Provide the last forward pass's results while checkpointed layers are recomputed in the backward pass."""
    before = [each.current for each in shared]
    for each in shared:
        each.current = each.last
    try:
        yield
    finally:
        for each, current in zip(shared, before, strict=True):
            each.current = current
