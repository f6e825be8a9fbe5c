"""A method in transformers' Trainer, or any trainer made from it:

    model.requires_grad_(False)
    method = AdaLoRA(AdaLoRAConfig(init_rank=12, target_rank=8).with_steps(total_steps))
    method.attach(model, targets, total_steps)
    callback = MethodCallback(method, total_steps)

    class MethodTrainer(Trainer):
        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            callback.add_regulariser(self.accelerator)
            return loss

    optimizers = optimizers_of(model, method, args, total_steps)
    MethodTrainer(model, args, train_dataset=rows, callbacks=[callback], optimizers=optimizers).train()

The Trainer alone calls nothing between backward and optimizer, so PEFT's AdaLoRA is never pruned in it unless the user
calls `update_and_allocate` (peft issues 432, 1327, 1801, 3373). To resume: `callback.restore(CHECKPOINT)` before
`train(resume_from_checkpoint=CHECKPOINT)`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import nn
from torch.optim import AdamW, Optimizer
from transformers import SchedulerType, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adalora.fast.together import shared_by
from adalora.files.writing import temporary
from adalora.methods.options import MethodConfig
from adalora.methods.protocol import Method
from adalora.methods.tensors import read_tensors
from adalora.options import require
from adalora.training.optimizer import SCHEDULES, groups_of, set_lr

STATE = "method.safetensors"  # in a checkpoint of the Trainer


class Schedule:
    """A linear or cosine schedule (`args.lr_scheduler_type`); each group's starts at the step at which it was added.

    Raises:
        UserError: `args.lr_scheduler_type` is another schedule.
    """

    def __init__(self, optimizer: Optimizer, args: TrainingArguments, total_steps: int) -> None:
        kind = SchedulerType(args.lr_scheduler_type).value
        require(kind in SCHEDULES, f"lr_scheduler_type={kind}: allowed are {', '.join(SCHEDULES)}")
        self.optimizer, self.total, self.kind = optimizer, total_steps, kind
        self.warmup, self.steps = args.get_warmup_steps(total_steps), 0
        self.load_state_dict({"steps": 0})

    def step(self) -> None:
        """Set the learning rates of the next step."""
        self.load_state_dict({"steps": self.steps + 1})

    def get_last_lr(self) -> list[float]:
        """The learning rate of every group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, int]:
        """The steps done."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore `state_dict`."""
        self.steps = state["steps"]
        set_lr(self.optimizer, self.steps, self.total, self.warmup, self.kind)


def optimizers_of(
    model: nn.Module, method: Method, args: TrainingArguments, total_steps: int
) -> tuple[AdamW, Schedule]:
    """The Trainer's `optimizers`: AdamW and schedule with the arguments' values, over this suite's groups. Biases and
    norms have no weight decay, and the method may have learning rates of its own."""
    optimizer = AdamW(
        groups_of(model, method, args.learning_rate),
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        weight_decay=args.weight_decay,
        fused=True,
    )
    return optimizer, Schedule(optimizer, args, total_steps)


class MethodCallback(TrainerCallback):
    """Calls an attached method where the Trainer trains, and checks at the end that the ranks are what was asked for.

    Args:
        method: attached to the model.
        total_steps: T of `attach`.
    """

    def __init__(self, method: Method, total_steps: int) -> None:
        self.method, self.total_steps = method, total_steps
        self.grows = type(method.config).initial is not MethodConfig.initial
        self.regularised = False  # whether `add_regulariser` was called in this step
        self.optimizer: Any = None
        self.restored = 0

    def add_regulariser(self, accelerator: Accelerator) -> None:
        """After a backward pass of the loss: add the regulariser's gradient, once a step. Called by `training_step`."""
        if not accelerator.sync_gradients:
            return
        self.regularised = True
        regulariser = self.method.regulariser()
        if regulariser.requires_grad:  # not by backward(), after which processes would exchange gradients again
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]  # the method may grow
            found = torch.autograd.grad(regulariser, trained, allow_unused=True)
            for parameter, gradient in zip(trained, found, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def restore(self, checkpoint: str | Path) -> None:
        """Restore the method's state from a checkpoint of the Trainer, before `train(resume_from_checkpoint=...)`.

        Raises:
            UserError: the checkpoint has no such state, or the method adds parameters as it trains.
        """
        name = self.method.config.name
        require(not self.grows, f"{name} adds parameters as it trains, which the Trainer can't resume: start over")
        path = Path(checkpoint) / STATE
        require(path.is_file(), f"{path} is missing: the checkpoint is of a training without MethodCallback")
        self.method.load_state_dict(read_tensors(path, "restore an earlier checkpoint"))
        self.restored = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json")).global_step

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        """Reject settings under which the method would train otherwise than planned. Raises `UserError`."""
        name = self.method.config.name
        require(
            state.max_steps == self.total_steps,
            f"the Trainer makes {state.max_steps:,} steps, but {name} is planned for {self.total_steps:,}",
        )
        require(not args.fp16, "fp16 skips steps, which the Trainer doesn't tell: set bf16=True")
        require(args.n_gpu <= 1, "DataParallel copies the model every step: start one process a GPU with torchrun")
        require(not (args.deepspeed or args.fsdp), "DeepSpeed and FSDP cut up parameters, which methods need whole")
        require(
            not (self.method.allocates and args.load_best_model_at_end),
            f"{name} allocates until its last step: set load_best_model_at_end=False",
        )
        require(
            not (args.activation_checkpointing and shared_by(kw["model"])),
            "activation_checkpointing=True doesn't know what modules share after speed_up: leave it out, and call "
            "adalora.training.recompute.recompute_activations(model)",
        )
        require(not (self.grows and args.world_size > 1), f"{name} grows, which works in one process only")
        require(
            isinstance(kw["lr_scheduler"], Schedule) or not (self.grows or self.method.groups()),
            f"{name} has learning rates of its own: give optimizers=optimizers_of(model, method, args, total_steps)",
        )
        held = {tensor.device for tensor in self.method.state_dict().values() if tensor.is_floating_point()}
        require(
            held <= {p.device for group in kw["optimizer"].param_groups for p in group["params"]},
            f"{name}'s state isn't on the model's device: call model.to(args.device) before attach",
        )
        require(
            state.global_step == self.restored,
            f"training resumes at step {state.global_step:,}: call restore(CHECKPOINT) before train",
        )
        self.optimizer = kw["optimizer"]

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any
    ) -> None:
        """Call the method's `before_step`. Raises `UserError` if the gradient lacks the regulariser's."""
        require(
            self.regularised or not self.method.regulariser().requires_grad,
            f"{self.method.config.name}'s regulariser isn't in the gradient: call add_regulariser in training_step",
        )
        self.regularised = False
        self.method.before_step(state.global_step, kw["optimizer"])

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any
    ) -> None:
        """Call the method's `after_step`; the gradients are still there."""
        self.method.after_step(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        """Write the method's state into the checkpoint."""
        if state.is_world_process_zero:
            path = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE
            with temporary(path) as new:
                save_file({name: t.contiguous() for name, t in self.method.state_dict().items()}, new)
                new.rename(path)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        """Check the final ranks. Raises `UserError` if they aren't what was asked for, or if training ended early."""
        name = self.method.config.name
        require(
            state.global_step == self.total_steps,
            f"training ended at step {state.global_step:,} of {self.total_steps:,}, and {name} isn't done",
        )
        self.method.check_end()
