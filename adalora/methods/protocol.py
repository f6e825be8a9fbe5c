"""The interface between methods and the training loop. Methods override what they need."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adalora.methods.linear import merge
from adalora.methods.options import MethodConfig
from adalora.options import require

Options = TypeVar("Options", bound=MethodConfig)


class Method(ABC, Generic[Options]):
    """A parameter-efficient method with its options, usable in any loop:

        method.attach(model, targets, total_steps)
        optimizer = AdamW(groups_of(model, method, lr))   # training/optimizer.py, as set_lr
        for t, batch in enumerate(batches):           # t counts optimizer steps from 0
            loss = task_loss(model, batch) + method.regulariser()
            loss.backward()
            clip_grad_norm_(...)
            method.before_step(t, optimizer)
            set_lr(optimizer, t, total_steps, warmup)
            optimizer.step()
            method.after_step(t)
            optimizer.zero_grad()

    In fp16, if the scaler will skip the step, call `skip_step` instead of `before_step`, `set_lr` and `after_step`, and
    keep t. Still call the optimizer's step, which the scaler skips and answers with a lower scale, and zero_grad.

    The interface covers what relatives of AdaLoRA need: growing ranks and new optimizer groups (`before_step`; a
    group's own schedule starts at step `born`), gradients and inputs of the increments (in the modules that `attach`
    inserts), a proximal step (`after_step`), and per-group hyperparameters (`groups`).
    """

    reads_inputs: ClassVar[bool] = False  # whether it uses the modules' inputs, besides their gradients

    def __init__(self, config: Options) -> None:
        self.config = config

    @abstractmethod
    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        """Add the method's parameters to `model`, whose own parameters are frozen.

        Raises:
            UserError: an option is unresolved: a size (solved from a budget) or a length (`config.with_steps`).
        """

    def groups(self) -> list[dict[str, Any]]:
        """Optimizer groups (`params` and options) for parameters with their own hyperparameters."""
        return []

    def regulariser(self) -> Tensor:
        """The weighted regularisation term of the loss; training only."""
        return torch.zeros(())

    def before_step(self, t: int, optimizer: Optimizer) -> None:
        """Called after backward and clipping, before the optimizer step."""

    def after_step(self, t: int) -> None:
        """Called after the optimizer and scheduler steps, with gradients still present."""

    def skip_step(self) -> None:
        """Called instead if fp16's scaler skips the step: discard what its passes accumulated."""

    @property
    def allocates(self) -> bool:
        """Whether it may change ranks or entries until the end of training, so that earlier models aren't final.

        True if `before_step` or `after_step` is overridden.
        """
        return any(getattr(type(self), hook) is not getattr(Method, hook) for hook in ("before_step", "after_step"))

    def ranks(self) -> dict[str, int]:
        """Realised rank of every target, if the method has ranks."""
        return {}

    def peak(self) -> int | None:
        """Peak adapter parameters, known after training; None: the value from `count`."""
        return None

    def kept(self) -> int | None:
        """Adapter parameters that are kept; None: the value from `count`."""
        return None

    def check_end(self) -> None:
        """After the last step, check that the allocation has the declared size. Raises `UserError`."""

    def metrics(self) -> dict[str, Tensor | float]:
        """Values to log besides the loss, such as the current budget."""
        return {}

    def merge(self, model: nn.Module) -> None:
        """Merge the increments into the base weights and restore plain modules.

        Raises:
            UserError: a module can't be merged.
        """
        merge(model)

    def state_dict(self) -> dict[str, Tensor]:
        """State for exact resume, besides parameters and optimizer."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict`, after `attach`."""

    def allocate(self, ranks: Mapping[str, int]) -> None:
        """After `attach`: take the shape of a finished adapter with these ranks, if shapes depend on ranks."""

    def finish(self) -> None:
        """After training: drop parameters that only training needed, so that only kept ones are saved."""


def check_groups(method: Method, optimizer: Optimizer) -> None:
    """Check that the optimizer has the method's groups. Raises `UserError`."""
    require(
        all("peak_lr" in group for group in optimizer.param_groups),
        f"{method.config.name} has groups of parameters with options of their own: make the optimizer from "
        "adalora.training.optimizer.groups_of(model, method, lr)",
    )
