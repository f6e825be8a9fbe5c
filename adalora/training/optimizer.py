"""AdamW and the schedule, linear as in the released code, or cosine (docs/deviations.md: D-adamw, D-decay, D-lr)."""

import math
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from adalora.config.schema import Training
from adalora.methods.protocol import Method


def build_optimizer(model: nn.Module, method: Method, training: Training) -> AdamW:
    """AdamW over the trained parameters, in the groups of `groups_of`."""
    return AdamW(
        groups_of(model, method, training.lr),
        lr=training.lr,
        betas=(training.adam_beta1, training.adam_beta2),
        eps=training.adam_eps,
        weight_decay=training.weight_decay,
        fused=all(p.dtype.is_floating_point for p in model.parameters() if p.requires_grad),
    )


def groups_of(model: nn.Module, method: Method, lr: float) -> list[dict[str, Any]]:
    """The optimizer's groups. Weight decay applies to all but biases and norms (LayerNorm, RMSNorm), so also to
    low-rank factors and head (released code). Adapters and head have the same learning rate.

    Each group has `peak_lr` and `born`, the step at which its schedule starts.
    """
    own = method.groups()
    owned = {id(p) for group in own for p in group["params"]}
    norms = {id(p) for m in model.modules() if is_norm(m) for p in m.parameters(recurse=False)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in owned:
            bare = id(parameter) in norms or name.endswith("bias")
            (plain if bare else decayed).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed},
        {"params": plain, "weight_decay": 0.0},
        *own,
    ]
    for group in groups:
        group["peak_lr"] = group.get("lr", lr)
        group.setdefault("born", 0)
    return [group for group in groups if group["params"]]


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a LayerNorm or an RMSNorm, of which transformers has one class per architecture."""
    return isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")


def linear(step: int, total: int, warmup: int) -> float:
    """Linear warm-up from 0 over `warmup` steps, then linear decay to 0 at `total`; in [0, 1]."""
    if step < warmup:
        return max(0, step) / max(1, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def cosine(step: int, total: int, warmup: int) -> float:
    """Linear warm-up, then (1 + cos(pi x)) / 2 with x from 0 to 1 at `total`."""
    left = linear(step, total, warmup)
    return left if step < warmup else (1 - math.cos(math.pi * left)) / 2


SCHEDULES = {"linear": linear, "cosine": cosine}


def set_lr(optimizer: Optimizer, t: int, total: int, warmup: int, schedule: str = "linear") -> None:
    """Set the learning rate of step t, which depends on t alone, so there is no state to save."""
    for group in optimizer.param_groups:
        born = group["born"]
        group["lr"] = group["peak_lr"] * SCHEDULES[schedule](t - born, total - born, warmup)
