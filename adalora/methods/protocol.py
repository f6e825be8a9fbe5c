"""What a method is to the training loop. A method overrides what it needs."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adalora.config.methods import MethodConfig
from adalora.methods.linear import merge

Shapes = Mapping[str, tuple[int, int]]
"""Target path -> (d_out, d_in) of its weight."""


class Count(NamedTuple):
    """Adapter parameters, head excluded: the most that are trained at once, and what is kept."""

    peak: int
    kept: int


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
    config: Any

    def size(self, shapes: Shapes) -> int | None:
        """The size that the configuration sets by hand, None where the budget decides."""
        return None

    def sized(self, size: int, shapes: Shapes) -> MethodConfig:
        """The configuration of integer size `size` >= 1: more size, more parameters."""
        raise TypeError(f"{self.config.name} has no size to choose")

    def adapted(self, shapes: Shapes) -> Shapes:
        """Those of the targets that it really adapts."""
        return shapes

    def count(self, shapes: Shapes) -> Count:
        """Parameters of the configured setting; an adaptive method counts a uniform allocation."""
        raise TypeError(f"{self.config.name} has no size to count")

    def check(self, shapes: Shapes, total_steps: int) -> None:
        """Refuse a planned configuration that doesn't fit into the training. Raises `UserError`."""

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

    def initial(self, shapes: Shapes) -> int | None:
        """Adapter parameters trained at first, where ranks grow; None: the peak that `count` says."""
        return None

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

    def describe(self) -> str:
        """The setting in words, such as `rank 4 -> 2`."""
        ...

    def phases(self, shapes: Shapes, total_steps: int) -> str | None:
        """The parts of the training in words and steps, where the method has them."""
        return None
