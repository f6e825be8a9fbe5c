"""The training loop, in the released code's order (arXiv 2303.10512, Algorithm 1).

Optimizer step t (from 0): backward, clip, optimizer, scheduler, allocation while the gradients exist, zero_grad
(docs/deviations.md: D-loop, D-grad). Logged values stay on the device until a logging step. Steps that overflow in fp16
aren't counted (stability.py).
"""

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from adalora.config.schema import Resolved
from adalora.errors import Interrupted, UserError
from adalora.methods.protocol import Method
from adalora.processes import Agreement, average
from adalora.training import checkpoint
from adalora.training.batches import LengthGroups
from adalora.training.checkpoint import Progress
from adalora.training.evaluate import evaluate
from adalora.training.optimizer import set_lr
from adalora.training.signals import stop_signals
from adalora.training.stability import Guard
from tasks.task_type import Split, TaskType

SEED_STRIDE = 1_000_003  # distance between the seeds of two processes (ours; a prime)


class Watcher(Protocol):
    """Receives the loop's reports: log files, wandb, a progress bar."""

    def started(self, step: int, damaged: list[str], logged: Mapping[str, str]) -> None:
        """Called before the first step. `step` is the checkpoint's, 0 without one; `logged` are its log checksums;
        `damaged` names checkpoints that were skipped."""

    def logged(self) -> dict[str, str]:
        """The checksum of each log, for the checkpoint."""
        ...

    def advanced(self, step: int) -> None:
        """After every step."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Called at a logging step."""

    def evaluating(self, split: str, done: int, rows: int) -> None:
        """Called during a slow evaluation."""

    def evaluation(self, step: int, values: Mapping[str, float], ranks: Mapping[str, int]) -> None:
        """After an evaluation."""


@dataclass
class Setup:
    """Everything that the loop needs, built by `adalora/run/run.py`."""

    config: Resolved
    accelerator: Accelerator
    model: nn.Module  # unwrapped: `train` wraps it after a checkpoint has restored its shapes
    method: Method
    optimizer: Optimizer
    order: LengthGroups
    batches: DataLoader
    evals: list[Split]
    task_type: TaskType
    tokenizer: PreTrainedTokenizerBase
    checkpoints: Path
    watcher: Watcher


def train(setup: Setup) -> tuple[Progress, list[Any]]:
    """Train to the end, resuming from the newest checkpoint if there is one; also return the last predictions by split.

    Raises:
        UserError: a loss or gradient isn't finite, or a checkpoint can't be written.
        Interrupted: Ctrl-C, SIGTERM or a scheduler's signal; the state is saved.
    """
    accelerator, method = setup.accelerator, setup.method
    training, T = setup.config.training, setup.config.training.total_steps  # noqa: N806
    # sums since the last log: loss, regulariser, gradient norm, steps
    window = torch.zeros(4, device=accelerator.device)
    here = torch.zeros(3, device=accelerator.device)  # the first three for this step
    progress, saved, damaged, logged = resume(setup)
    if saved is not None:
        window.copy_(saved)
    elif accelerator.process_index:  # each process has its own dropout; rank 0 keeps the generator that built the model
        torch.manual_seed(setup.config.seed + SEED_STRIDE * accelerator.process_index)
    wrapped = {id(p) for p in setup.model.parameters() if p.requires_grad}
    model, optimizer = accelerator.prepare(setup.model, setup.optimizer)
    guard, agree = Guard(accelerator, setup.optimizer), Agreement()
    clock = Clock(training.checkpoint_minutes if accelerator.is_main_process else None)
    setup.watcher.started(progress.step, damaged, logged)
    predictions: list[Any] = []
    started, before = time.monotonic(), progress.seconds
    headline = setup.config.task.metric_name(setup.config.task.headline, setup.evals[0].name)
    model.train()
    set_lr(optimizer, progress.step, T, training.warmup_steps, training.schedule)

    def score(step: int) -> list[Any]:
        results, predictions = evaluate(
            accelerator,
            model,
            setup.task_type,
            [split for split in setup.evals if step == T or not setup.config.task.is_final(split.name)],
            setup.tokenizer,
            setup.watcher.evaluating,
        )
        progress.record(results, headline, setup.config.task.direction)
        setup.watcher.evaluation(step, results, method.ranks())
        return predictions

    if progress.step == 0 and setup.config.method.initial_adapter() is not None:
        score(0)  # the adapter as imported

    with stop_signals() as stop:
        while progress.step < T:
            setup.order.start_at(progress.step + progress.skipped)
            for batch, part in zip(setup.batches, setup.order.shares(), strict=False):  # the loader prefetches one
                t = progress.step
                with nullcontext() if part.last else accelerator.no_sync(model):
                    loss, weight = setup.task_type.loss(model, batch)
                    regulariser = method.regulariser()
                    # share of the step's mean loss: by the weight of the rows
                    _, whole = setup.order.totals(t + progress.skipped)
                    share = weight * (accelerator.num_processes * part.counts) / whole
                    accelerator.backward((loss + regulariser) * share)
                here[0] += loss.detach() * share
                here[1] += regulariser.detach() * share
                if not part.last:
                    continue
                trained = [p for group in optimizer.param_groups for p in group["params"]]  # the method may grow
                if accelerator.num_processes > 1:
                    average_gradients([p for p in trained if id(p) not in wrapped])
                norm = accelerator.clip_grad_norm_(trained, training.max_grad_norm or float("inf"))
                if guard.skips(norm, t):
                    method.skip_step()
                    optimizer.step()  # skips the step and lowers the scale
                    optimizer.zero_grad()
                    here.zero_()
                    progress.skipped += 1
                    continue
                here[2] = norm
                guard.see(t, here)
                method.before_step(t, optimizer)
                optimizer.step()
                set_lr(optimizer, t + 1, T, training.warmup_steps, training.schedule)
                method.after_step(t)
                optimizer.zero_grad()
                window[:3] += here
                window[3] += 1
                here.zero_()
                step = progress.step = t + 1
                setup.watcher.advanced(step)

                if at(training.log_steps, step, T):
                    guard.check()
                    log(setup, window, progress)
                if at(training.eval_steps, step, T):
                    guard.check()
                    predictions = score(step)
                progress.seconds = before + time.monotonic() - started
                stopped_by, due = agree(stop[0] if stop else 0, clock.due())
                every = training.checkpoint_steps
                if step < T and (stopped_by or due or (every is not None and step % every == 0)):
                    guard.check()
                    save(setup, progress, window)
                if stopped_by and step < T:
                    raise Interrupted(step, stopped_by)
                if step == T:
                    break
    return progress, predictions


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Average over the processes the gradients of parameters that were added after DDP wrapped the model: DDP doesn't
    know them."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        average(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


class Clock:
    """A timer for checkpoints every so many minutes; None: never."""

    def __init__(self, minutes: float | None) -> None:
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether a checkpoint is due; if so, restart the timer."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


def at(every: int, step: int, total: int) -> bool:
    """Whether something is due after `step`: every `every` steps, and at the end."""
    return step % every == 0 or step == total


def log(setup: Setup, window: Tensor, progress: Progress) -> None:
    """Log the means since the last log, and reset the sums."""
    average(window[:2])  # the norm of the averaged gradient is equal on all processes
    loss, regulariser, norm, steps = window.tolist()
    values = {
        "train/loss": loss / steps,
        "train/regulariser": regulariser / steps,
        "train/grad_norm": norm / steps,
        "train/lr": setup.optimizer.param_groups[0]["lr"],
    }
    if setup.accelerator.scaler is not None:
        values["train/skipped_steps"] = progress.skipped
    for name, value in setup.method.metrics().items():
        if (number := float(value)) == number:  # the threshold is NaN until something is pruned
            values[f"allocation/{name}"] = number
    window.zero_()
    setup.watcher.step(progress.step, values)


def save(setup: Setup, progress: Progress, window: Tensor) -> None:
    """Write a checkpoint from rank 0, with the per-process state of all."""
    own = checkpoint.random_state() | {"window": window.cpu()}
    every = gather_object([own])
    if setup.accelerator.is_main_process:
        tensors, groups = checkpoint.collect(setup.model, setup.optimizer, setup.method)
        for process, values in enumerate(every):
            tensors |= {f"process/{process}/{name}": value for name, value in values.items()}
        scaler = {} if setup.accelerator.scaler is None else setup.accelerator.scaler.state_dict()
        state = {
            "groups": groups,
            "progress": asdict(progress),
            "scaler": scaler,
            "processes": len(every),
            "logs": setup.watcher.logged(),
        }
        checkpoint.save(setup.checkpoints, progress.step, tensors, state)
    setup.accelerator.wait_for_everyone()


def resume(setup: Setup) -> tuple[Progress, Tensor | None, list[str], dict[str, str]]:
    """Restore the newest valid checkpoint, if there is one; also return the damaged ones and the log checksums.

    Raises:
        UserError: it was written with another number of processes, or all checkpoints are damaged.
    """
    accelerator = setup.accelerator
    found = checkpoint.load(setup.checkpoints)
    if found is None:
        return Progress(), None, [], {}
    tensors, state, damaged = found
    then, now = state.processes, accelerator.num_processes
    if then != now:
        raise UserError(
            f"{setup.checkpoints.parent} was started with {counted(then)} and this is {counted(now)}: use {then} "
            "to resume, or remove the folder to start over"
        )
    checkpoint.restore(tensors, state.groups, setup.model, setup.optimizer, setup.method)
    own = checkpoint.section(tensors, f"process/{accelerator.process_index}/")
    checkpoint.set_random_state(own)
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state.scaler)
    return state.progress, own["window"], damaged, state.logs


def counted(processes: int) -> str:
    """A number of processes in words."""
    return "1 process" if processes == 1 else f"{processes} processes"
