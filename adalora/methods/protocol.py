"""What a method is to the training loop. A method overrides what it needs."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adalora.methods.linear import merge


class Method(Protocol):
    """A parameter-efficient method, usable in any loop:

        method.attach(model, targets, total_steps)
        for t, batch in enumerate(batches):           # t counts optimizer steps from 0
            loss = task_loss(model, batch) + method.regulariser()
            loss.backward()
            clip_grad_norm_(...)                      # fp16: where the scaler will skip the step, call
            method.before_step(t, optimizer)          # skip_step() instead of the rest, and keep t
            optimizer.step()
            method.after_step(t)
            optimizer.zero_grad()

    What relatives of AdaLoRA need fits in here: growing ranks and new optimizer groups
    (`before_step`; a group's `born` field starts its own schedule, see training/optimizer.py),
    gradients of the increment and sight of the inputs (the modules that `attach` puts in),
    a proximal step (`after_step`), own hyperparameters for some parameters (`groups`).
    """

    increments: ClassVar[bool] = True  # whether it adds an increment to the weights of the maps
    reads_inputs: ClassVar[bool] = False  # whether it uses the inputs of the maps, and not only their gradients
    config: Any

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        """Make the method's parameters part of `model`, whose own are all frozen by now.

        Raises:
            UserError: an option is still open: a size that no budget has solved, or a length (`config.planned`).
        """
        ...

    def groups(self) -> list[dict[str, Any]]:
        """Optimizer groups for parameters that need other values than the rest (`params` and options)."""
        return []

    def regulariser(self) -> Tensor:
        """The weighted extra loss term of this step; training only."""
        return torch.zeros(())

    def before_step(self, t: int, optimizer: Optimizer) -> None:
        """After backward and clipping, before the optimizer moves."""

    def after_step(self, t: int) -> None:
        """After optimizer and schedule, gradients still there."""

    def skip_step(self) -> None:
        """In place of a step that fp16's scaler skips: forget what its passes gathered."""

    def ranks(self) -> dict[str, int]:
        """Realised rank of every target, where the method has ranks."""
        return {}

    def peak(self) -> int | None:
        """Adapter parameters trained at once at most, by the end; None: what `count` says."""
        return None

    def kept(self) -> int | None:
        """Adapter parameters that the trained result needs; None: what `count` says."""
        return None

    def check_end(self) -> None:
        """After the last step: refuse an allocation of another size than declared. Raises `UserError`."""

    def metrics(self) -> dict[str, Tensor | float]:
        """What to log beside the loss, such as the budget in force."""
        return {}

    def merge(self, model: nn.Module) -> None:
        """Fold what was learned into the base weights, and put plain maps back.

        Raises:
            UserError: a part that no weight of the base can take in.
        """
        merge(model)

    def state_dict(self) -> dict[str, Tensor]:
        """What exact resumption needs beyond parameters and optimizer."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`, after `attach`."""

    def allocate(self, ranks: Mapping[str, int]) -> None:
        """After `attach`: take the shape of a finished adapter with these ranks, where they decide it."""

    def finish(self) -> None:
        """After training: drop what only training needed, so that what is saved is what is kept."""
