"""Activation checkpointing: a layer keeps only its input, and recomputes the rest in the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from transformers import PreTrainedModel

from adalora.methods.linear import SharedFactors, shared_by


def recompute_activations(model: PreTrainedModel) -> None:
    """Turn on activation checkpointing in the layers of `model`, which has the method attached.

    Dropout draws the same masks again, so results don't change. What maps share (`SharedFactors`) is formed outside of
    the layers and not again with them.
    """
    shared = shared_by(model.modules())
    for module in shared:
        module.keeps_last = True

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), again(shared)

    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})


@contextmanager
def again(shared: list[SharedFactors]) -> Iterator[None]:
    """Let recomputed layers use the shared results of the last forward pass."""
    with ExitStack() as stack:
        for module in shared:
            stack.enter_context(module.again())
        yield
