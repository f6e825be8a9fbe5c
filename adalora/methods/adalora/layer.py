"""AdaLoRA (Zhang et al., ICLR 2023, arXiv 2303.10512).

    y = W x + b + alpha / (r + 1e-5) P diag(lambda) Q dropout(x)

with Q (r, d_in), lambda (r, 1), P (d_out, r), named `lora_A`, `lora_E`, `lora_B` as in the released
code. r is the initial rank, and the divisor doesn't change when triplets are pruned (the authors found that
following the current rank hurts: QingruZhang/AdaLoRA issue 12). P, Q ~ N(0, 0.02^2), lambda = 0.

Loss: task loss + gamma R, with R as released (the paper sums squared norms, so gamma doesn't transfer):

    R = mean over the 2n matrices of || P^T P - I ||_F and || Q Q^T - I ||_F

After each optimizer step, with gradients still present, triplets are scored and pruned (allocation.py). Pruned
triplets have lambda = 0, keep P and Q, and can return until T - t_f. Parameters: sum of r_k (d_in + d_out + 1); in
training r is the initial rank everywhere.

The paper's ablations are options: `init_rank` = `target_rank` never prunes (SVD-LoRA);
`orthogonality` = 0; `importance`: S from I_bar alone, or S = |lambda|; `form` = "doublets": LoRA's B A, with a row of
A and the column of B scored and zeroed together.

Deviations (docs/deviations.md): D-scale, D-orth, D-orth-eval, D-init,
D-dropout, D-count, D-nograd; in the ablations D-svd-lora, D-doublets, D-magnitude.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from adalora.allocation import Importance, Schedule, prune
from adalora.errors import UserError
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.linear import replace_modules
from adalora.methods.lora.layer import LoRALinear
from adalora.methods.lora.options import LoRAConfig
from adalora.methods.low_rank import LowRankLinear, form_together
from adalora.methods.options import given
from adalora.methods.protocol import Method
from adalora.tensors import own_dtype


class SVDLinear(LowRankLinear):
    """One adapted map: `lora_A` = Q (r, d_in), `lora_E` = lambda (r, 1), `lora_B` = P (d_out, r)."""

    def __init__(self, base: nn.Linear, config: AdaLoRAConfig) -> None:
        super().__init__(base)
        r = given(config, "init_rank")
        self.scale, self.dropout = config.alpha / (r + 1e-5), config.dropout
        new: dict[str, Any] = {"dtype": base.weight.dtype, "device": base.weight.device}
        self.lora_A = nn.Parameter(torch.empty(r, base.in_features, **new))
        self.lora_E = nn.Parameter(torch.zeros(r, 1, **new))
        self.lora_B = nn.Parameter(torch.empty(base.out_features, r, **new))
        nn.init.normal_(self.lora_A, std=config.init_std)
        nn.init.normal_(self.lora_B, std=config.init_std)

    @property
    def diagonal(self) -> Tensor:
        """lambda."""
        return self.lora_E

    def low_rank_factors(self) -> tuple[Tensor, Tensor]:
        alive = self.lora_E.squeeze(-1) != 0
        return self.lora_A[alive], self.scale * self.lora_B[:, alive] * self.lora_E[alive].mT


class Stack:
    """Parameters of equal shape, processed as one tensor. `rows` are the indices of their modules."""

    def __init__(self, rows: list[int], parameters: list[nn.Parameter], slot_dim: int) -> None:
        self.parameters = parameters
        self.rows = torch.tensor(rows, device=parameters[0].device)
        self.mean_dim = 3 - slot_dim  # of (m, ., .): the dimension that doesn't index slots
        with torch.no_grad():
            self.importance = Importance.like(self.weights())

    def weights(self) -> Tensor:
        """The m parameters stacked: (m, ...)."""
        return torch.stack(tuple(self.parameters))

    def gradients(self) -> Tensor:
        """Their gradients stacked: (m, ...).

        Raises:
            RuntimeError: a gradient is missing: after_step came after zero_grad, or the module is unused.
        """
        found = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if len(found) < len(self.parameters):
            raise RuntimeError(
                "AdaLoRA's importance needs the gradients of every adapted module: call after_step(t) "
                "after optimizer.step() and before zero_grad(), and adapt only modules that the loss reaches"
            )
        return torch.stack(found)

    def add_scores(self, total: Tensor, kind: str) -> None:
        """Add this stack's part to the triplet scores (n, r): the mean over each slot's entries."""
        total.index_add_(0, self.rows, self.importance.score(kind).mean(self.mean_dim))


class AdaLoRA(Method[AdaLoRAConfig]):
    """Prune the least important triplets, from `init_rank` per module to a mean of `target_rank`."""

    def __init__(self, config: AdaLoRAConfig) -> None:
        super().__init__(config)
        self.triplets = config.triplets
        self.modules: dict[str, SVDLinear | LoRALinear] = {}

    # -- training

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        config = self.config
        n, r = len(targets), given(config, "init_rank")
        t_i, t_f, interval = (given(config, name) for name in ("initial_steps", "final_steps", "mask_interval"))
        as_lora = LoRAConfig(rank=r, alpha=config.alpha, dropout=config.dropout, init_std=config.init_std)
        self.modules = replace_modules(
            model, targets, lambda base: SVDLinear(base, config) if self.triplets else LoRALinear(base, as_lora)
        )
        self.formed = form_together(model, self.modules)
        self.schedule = Schedule(n * r, config.final_budget(n), t_i, t_f, total_steps, interval)
        modules = list(self.modules.values())
        self.Q = stacked([module.lora_A for module in modules], slot_dim=1)
        self.P = stacked([module.lora_B for module in modules], slot_dim=2)
        diagonals = [module.lora_E for module in modules if isinstance(module, SVDLinear)]
        self.E = stacked(diagonals, slot_dim=1)
        # tensors whose pruned slots are zeroed, and the dim at which to unsqueeze the mask (m, r) so that it broadcasts
        self.zeroed: list[tuple[list[Any], int]] = [(diagonals, 2)]
        if not self.triplets:
            self.zeroed = [([module.lora_A for module in modules], 2), ([module.lora_B for module in modules], 1)]
        some = modules[0].lora_A
        self.mask = torch.ones(n, r, dtype=torch.bool, device=some.device)
        self.threshold = torch.full((), float("nan"), dtype=some.dtype, device=some.device)
        self.budget = self.schedule.b_0

    def regulariser(self) -> Tensor:
        """gamma R."""
        if self.config.orthogonality == 0:
            return torch.zeros(())
        norms = [gram_distance(M, columns=M is P) for Q, P in self.formed.stacks() for M in (Q, P)]
        return self.config.orthogonality * torch.cat(norms).mean()

    @torch.no_grad()
    def after_step(self, t: int) -> None:
        """Algorithm 1, lines 5 to 10: score, then prune to b(t)."""
        schedule = self.schedule
        self.budget = schedule.budget(t)
        if schedule.b_T == schedule.b_0:  # nothing is ever pruned: no scores needed
            return
        if schedule.scores_at(t) and self.config.importance != "magnitude":
            for stack in self._stacks():
                stack.importance.update(stack.weights(), stack.gradients(), self.config.beta1, self.config.beta2)
        if not schedule.prunes_at(t) or self.budget == schedule.b_0:
            return
        if not schedule.is_final(t - 1):  # the final mask is chosen once: scores no longer change
            self.mask, self.threshold = prune(self.scores(), self.budget)
        keep = self.mask.to(self.threshold.dtype)
        for parameters, dim in self.zeroed:
            torch._foreach_mul_(parameters, keep.unsqueeze(dim).unbind())

    def scores(self) -> Tensor:
        """S (n, r): s(lambda_i) + mean of s over row i of Q + mean of s over column i of P, or |lambda_i|."""
        if self.config.importance == "magnitude":
            (diagonals,) = self.E
            return diagonals.weights().abs().squeeze(-1)
        total = torch.zeros_like(self.mask, dtype=self.threshold.dtype)
        for stack in self._stacks():
            stack.add_scores(total, self.config.importance)
        return total

    def _stacks(self) -> Iterable[Stack]:
        return (*self.E, *self.Q, *self.P)

    # -- results and resume

    def ranks(self) -> dict[str, int]:
        """Number of triplets that survived the last pruning, by module."""
        return dict(zip(self.modules, self.mask.sum(1).tolist(), strict=True))

    def kept(self) -> int:
        return sum(
            rank * (module.in_features + module.out_features + self.triplets)
            for rank, module in zip(self.ranks().values(), self.modules.values(), strict=True)
        )

    def check_end(self) -> None:
        """Check that exactly b_T slots are left and no pruned one is nonzero."""
        back = sum(
            int(((p != 0) & ~keep).any())
            for parameters, dim in self.zeroed
            for p, keep in zip(parameters, self.mask.unsqueeze(dim), strict=True)
        )
        left, b_T = int(self.mask.sum()), self.schedule.b_T  # noqa: N806
        if left != b_T:
            raise UserError(f"AdaLoRA ended at a total rank of {left} instead of {b_T}")
        if back:
            raise UserError(f"AdaLoRA ended with nonzero values in pruned slots (tensors: {back})")

    def metrics(self) -> dict[str, Tensor | float]:
        return {"budget": float(self.budget), "threshold": self.threshold}

    def state_dict(self) -> dict[str, Tensor]:
        state = {"mask": self.mask, "threshold": self.threshold}
        for i, stack in enumerate(self._stacks()):
            state[f"sensitivity.{i}"] = stack.importance.sensitivity
            state[f"uncertainty.{i}"] = stack.importance.uncertainty
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.mask.copy_(state["mask"])
        self.threshold = state["threshold"].to(self.threshold)
        for i, stack in enumerate(self._stacks()):
            stack.importance.sensitivity.copy_(state[f"sensitivity.{i}"])
            stack.importance.uncertainty.copy_(state[f"uncertainty.{i}"])


def stacked(parameters: list[nn.Parameter], slot_dim: int) -> list[Stack]:
    """One `Stack` per shape. `slot_dim` is the dimension of the stack that indexes rank slots."""
    rows: dict[torch.Size, list[int]] = {}
    for row, parameter in enumerate(parameters):
        rows.setdefault(parameter.shape, []).append(row)
    return [Stack(found, [parameters[row] for row in found], slot_dim) for found in rows.values()]


def gram_distance(M: Tensor, columns: bool = False) -> Tensor:  # noqa: N803
    """|| Q Q^T - I ||_F of each Q in a stack (m, r, d), or with `columns` || P^T P - I ||_F of each P (m, d, r): (m,).

    The backward pass is written out: autograd would take three times the operations, and return P's gradient in a
    memory layout that each parameter has to copy.
    """
    return _GramDistance.apply(M, columns)


class _GramDistance(torch.autograd.Function):
    """|| G ||_F with G = Q Q^T - I or P^T P - I. Gradient: 2 G Q / || G ||_F or 2 P G / || G ||_F, 0 where G = 0."""

    @staticmethod
    def forward(ctx: Any, M: Tensor, columns: bool) -> Tensor:  # noqa: N803
        with own_dtype(M):
            G = torch.bmm(M.mT, M) if columns else torch.bmm(M, M.mT)  # noqa: N806
        G.diagonal(dim1=1, dim2=2).sub_(1)
        norms = torch.linalg.vector_norm(G, dim=(1, 2))
        ctx.save_for_backward(M, G, norms)
        ctx.columns = columns
        return norms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        M, G, norms = ctx.saved_tensors  # noqa: N806
        unit = G * (2 * gradient / norms.clamp_min(torch.finfo(norms.dtype).tiny))[:, None, None]
        with own_dtype(M):
            return torch.bmm(M, unit) if ctx.columns else torch.bmm(unit, M), None


METHOD = AdaLoRA
