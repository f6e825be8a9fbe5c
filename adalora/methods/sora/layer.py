"""SoRA (Ding et al., EMNLP 2023, arXiv 2311.11696): LoRA with gates made sparse by a proximal step.

    y = W x + b + (alpha / r_max) B diag(g) A dropout(x),   A (r_max, d_in), g (r_max), B (d_out, r_max)

A ~ U(-1 / sqrt(d_in), 1 / sqrt(d_in)), g ~ N(0, 1), B = 0 as released; the divisor stays r_max. After
each optimizer step, for all gates at once,

    g <- T_xi(g),   T_xi(v) = sign(v) max(|v| - xi, 0) = argmin_u (u - v)^2 / 2 + xi |u|

A gate at 0 still has a gradient, and becomes nonzero again when its update exceeds xi. Parameters: r_max (d_in + d_out
+ 1) per module in training; kept, with g folded into B, the sum of nnz(g_k) (d_in + d_out).

xi determines the sparsity, but no formula relates them. If `xi` is set, the kept count is an outcome. Otherwise (ours)
b(t), the parameters to keep after step t, follows AdaLoRA's cubic schedule, and xi_t is the lowest threshold that keeps
them: the largest |g| of the gates outside the b(t) parameters with the largest |g|. After T - t_f the remaining gates
are final: the others are held at 0, and there is no more shrinkage.

`compat=released` uses the released operator and its library's AdamW. Deviations (docs/deviations.md): D-sora-operator,
D-sora-xi, D-sora-budget, D-sora-adamw, D-sora-warmup, D-sora-penalty, D-sora-stages, D-sora-norm, D-sora-count.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from adalora.errors import UserError
from adalora.methods.allocation import Schedule
from adalora.methods.linear import replace_modules
from adalora.methods.low_rank import LowRankLinear
from adalora.methods.options import given
from adalora.methods.protocol import Method, check_groups
from adalora.methods.sora.options import SoRAConfig


class GatedLinear(LowRankLinear):
    """One adapted module: `lora_A` (r_max, d_in), `gate` (r_max), `lora_B` (d_out, r_max)."""

    def __init__(self, base: nn.Linear, config: SoRAConfig) -> None:
        super().__init__(base)
        r = given(config, "max_rank")
        self.scale, self.dropout = config.alpha / r, config.dropout
        self.lora_A, self.gate = self.zeros(r, base.in_features), self.zeros(r)
        self.lora_B = self.zeros(base.out_features, r)
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        nn.init.normal_(self.gate, std=config.init_std)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        z = F.dropout(x, self.dropout, self.training)
        return self.base(x) + self.scale * (z @ self.lora_A.mT * self.gate) @ self.lora_B.mT

    def slots(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.lora_A, self.gate, self.lora_B


class SoRA(Method[SoRAConfig]):
    """SoRA: gates thresholded from `max_rank` per module to a mean rank of `target_rank`."""

    # -- training

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        config, r = self.config, given(self.config, "max_rank")
        self.modules = replace_modules(model, targets, lambda base: GatedLinear(base, config))
        self.gates: list[Tensor] = [module.gate for module in self.modules.values()]
        costs = [module.in_features + module.out_features for module in self.modules.values()]
        self.costs = torch.tensor(costs, device=self.gates[0].device)
        self.schedule = None
        if config.xi is None:
            b_0, b_T = r * sum(costs), config.final_budget(sum(costs))
            t_i, t_f = given(config, "initial_steps"), given(config, "final_steps")
            self.schedule = Schedule(b_0, b_T, t_i, t_f, total_steps, mask_interval=1)
        self.mask = torch.ones(len(costs), r, dtype=torch.bool, device=self.costs.device)
        self.xi = torch.zeros((), dtype=self.gates[0].dtype, device=self.costs.device)
        self.lr_share = 1.0

    def groups(self) -> list[dict[str, Any]]:
        """An optimizer group for the gates: no weight decay, and its own epsilon (released code)."""
        lr = {} if self.config.gate_lr is None else {"lr": self.config.gate_lr}
        return [{"params": self.gates, "weight_decay": 0.0, "eps": self.config.gate_eps, **lr}]

    def regulariser(self) -> Tensor:
        """`penalty` times the mean |g| over all gates, zeros included."""
        if self.config.penalty == 0:
            return torch.zeros(())
        return self.config.penalty * torch.stack(self.gates).abs().mean()

    def before_step(self, t: int, optimizer: Optimizer) -> None:
        check_groups(self, optimizer)
        if self.config.threshold == "times_lr":
            (own,) = (group for group in optimizer.param_groups if group["params"][0] is self.gates[0])
            self.lr_share = own["lr"] / own["peak_lr"]
        if self.config.compat == "released":
            for group in optimizer.param_groups:
                step_as_transformers_4(group, t)

    @torch.no_grad()
    def after_step(self, t: int) -> None:
        """The proximal step on all gates (n, r_max) at once."""
        gates = torch.stack(self.gates)
        if self.schedule is None:
            self.xi.fill_(given(self.config, "xi") * self.lr_share)
            gates = self.operator(gates, self.xi)
        else:
            budget = self.schedule.budget(t)
            if budget == self.schedule.b_0:
                return
            if self.schedule.is_final(t - 1):  # the final gates are chosen once
                self.xi.zero_()
            else:
                sizes = gates.abs()
                self.mask = survivors(sizes, self.costs, budget)
                cut = sizes.masked_fill(self.mask, 0).max()
                self.xi = cut / 2 if self.config.compat == "released" else cut
                gates = self.operator(gates, self.xi)
            gates = gates * self.mask  # for ties at the threshold, and gates that would return at the end
        torch._foreach_copy_(self.gates, gates.unbind())

    def operator(self, v: Tensor, xi: Tensor) -> Tensor:
        """T_xi, or the released code's operator."""
        return released_threshold(v, xi) if self.config.compat == "released" else soft_threshold(v, xi)

    # -- results and resume

    def ranks(self) -> dict[str, int]:
        """Number of nonzero gates, by module."""
        return dict(zip(self.modules, self._nonzero().tolist(), strict=True))

    def kept(self) -> int:
        return int(self._kept())

    def check_end(self) -> None:
        """Unless `xi` is set, check that the kept count is within half of the largest gate's parameters of b_T.

        Raises:
            UserError: it isn't.
        """
        if self.schedule is None or self.schedule.b_T == self.schedule.b_0:
            return
        kept, b_T = self.kept(), self.schedule.b_T
        if abs(kept - b_T) > self.costs.max() / 2:
            raise UserError(f"SoRA ended with {kept:,} parameters instead of {b_T:,}")

    def _nonzero(self) -> Tensor:
        """nnz(g_k), (n)."""
        return torch.stack(self.gates).detach().count_nonzero(1)

    def _kept(self) -> Tensor:
        """The parameters of these gates. CUDA has no dot product of integers."""
        return (self._nonzero() * self.costs).sum()

    def metrics(self) -> dict[str, Tensor | float]:
        return {"kept": self._kept(), "xi": self.xi}

    def state_dict(self) -> dict[str, Tensor]:
        return {"mask": self.mask, "xi": self.xi}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.mask.copy_(state["mask"])
        self.xi.copy_(state["xi"])


def soft_threshold(v: Tensor, xi: Tensor) -> Tensor:
    """T_xi(v) = sign(v) max(|v| - xi, 0)."""
    return v.sign() * (v.abs() - xi).clamp_min(0)


def released_threshold(v: Tensor, xi: Tensor) -> Tensor:
    """The released operator: 0 where |v| < 2 xi, else v - sign(v) xi; but |v| = xi leaves v unchanged
    (D-sora-operator)."""
    moved = torch.where(v.abs() > xi, v - v.sign() * xi, v)
    return moved.masked_fill(moved.abs() < xi, 0)


def survivors(sizes: Tensor, costs: Tensor, budget: int) -> Tensor:
    """Select the gates with the largest |g| whose total parameters come nearest to a budget: within half of one gate's.

    Args:
        sizes: |g| (n, r). Ties are kept in order of module, then slot.
        costs: d_in + d_out (n), the parameters of a gate in each module.
        budget: b, in parameters.

    Returns:
        The mask (n, r).
    """
    order = torch.argsort(sizes.flatten(), descending=True, stable=True)
    cost = costs.repeat_interleave(sizes.shape[1])[order]
    inside = 2 * cost.cumsum(0) - cost <= 2 * budget  # at least half of the gate fits
    return torch.empty_like(inside).scatter_(0, order, inside).view_as(sizes)


def step_as_transformers_4(group: dict[str, Any], t: int) -> None:
    """Set an AdamW group's hyperparameters so that torch's step t (from 0) equals that of transformers 4.14,

        p <- p - lr sqrt(1 - beta2^(t+1)) / (1 - beta1^(t+1)) m / (sqrt(v) + eps);   p <- p - lr wd p

    which decays after the Adam update and adds eps to the uncorrected root (D-sora-adamw). The scheduler resets lr for
    the next step; the other two are stored in the group.
    """
    eps, weight_decay = group.setdefault("released", [group["eps"], group["weight_decay"]])
    decay = group["lr"] * weight_decay
    group["eps"] = eps / math.sqrt(1 - group["betas"][1] ** (t + 1))
    group["lr"] *= 1 - decay
    group["weight_decay"] = weight_decay / (1 - decay)


METHOD = SoRA
