"""Activation checkpointing: a layer keeps only its input, and recomputes the rest in the backward pass."""

from contextlib import AbstractContextManager, nullcontext

from transformers import PreTrainedModel

from adalora.fast.together import again, shared_by


def recompute_activations(model: PreTrainedModel) -> None:
    """Turn on activation checkpointing in the layers of `model`, which has the method attached.

    Dropout draws the same masks again, so results don't change. What modules compute together
    (adalora/fast/together.py) is computed outside of the layers and not again with them. IncreLoRA keeps the inputs of
    its modules all the same, for the gradients of whole increments.
    """
    shared = shared_by(model)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), again(shared)

    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})
