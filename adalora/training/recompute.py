"""Activation checkpointing: a layer keeps its input alone, and computes the rest again in the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from transformers import PreTrainedModel

from adalora.methods.linear import SharedFactors, shared_by


def recompute_activations(model: PreTrainedModel) -> None:
    """Make the layers of `model`, to which the method is attached, do so in training.

    Dropout draws the same masks again, so no number changes. What maps share (`SharedFactors`) is formed outside of the
    layers and not again with them.
    """
    shared = shared_by(model.modules())
    for module in shared:
        module.keeps_last = True

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), again(shared)

    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})


@contextmanager
def again(shared: list[SharedFactors]) -> Iterator[None]:
    """Give layers that are computed again what the last forward pass formed."""
    with ExitStack() as stack:
        for module in shared:
            stack.enter_context(module.again())
        yield
