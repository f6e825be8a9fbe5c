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
import torch.nn.functional as F
from torch import Tensor, nn

from adalora.errors import UserError
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.allocation import Importance, Schedule, prune
from adalora.methods.linear import replace_modules
from adalora.methods.low_rank import LowRankLinear, alike, by_shape, gram_distance, stacks
from adalora.methods.options import given
from adalora.methods.protocol import Method


class SVDLinear(LowRankLinear):
    """One adapted module: `lora_A` = Q (r, d_in), `lora_E` = lambda (r, 1), `lora_B` = P (d_out, r)."""

    def __init__(self, base: nn.Linear, config: AdaLoRAConfig) -> None:
        super().__init__(base)
        r = given(config, "init_rank")
        self.scale, self.dropout = config.alpha / (r + 1e-5), config.dropout
        self.lora_A, self.lora_E = self.zeros(r, base.in_features), self.zeros(r, 1)
        self.lora_B = self.zeros(base.out_features, r)
        nn.init.normal_(self.lora_A, std=config.init_std)
        nn.init.normal_(self.lora_B, std=config.init_std)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        Q, lambda_, P = self.slots()
        z = F.dropout(x, self.dropout, self.training)
        return self.base(x) + self.scale * (z @ Q.mT * lambda_.mT) @ P.mT  # W x + b + s P diag(lambda) Q z

    def slots(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.lora_A, self.lora_E, self.lora_B


class DoubletLinear(LowRankLinear):
    """As in LoRA, y = W x + b + (alpha / r) B A dropout(x): `lora_A` = A (r, d_in), `lora_B` = B (d_out, r), B = 0."""

    def __init__(self, base: nn.Linear, config: AdaLoRAConfig) -> None:
        super().__init__(base)
        r = given(config, "init_rank")
        self.scale, self.dropout = config.alpha / r, config.dropout
        self.lora_A, self.lora_B = self.zeros(r, base.in_features), self.zeros(base.out_features, r)
        nn.init.normal_(self.lora_A, std=config.init_std)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        z = F.dropout(x, self.dropout, self.training)
        return self.base(x) + self.scale * (z @ self.lora_A.mT) @ self.lora_B.mT


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
        self.modules: dict[str, SVDLinear | DoubletLinear] = {}

    # -- training

    @property
    def allocates(self) -> bool:
        return self.schedule.b_T < self.schedule.b_0

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        config = self.config
        n, r = len(targets), given(config, "init_rank")
        t_i, t_f, interval = (given(config, name) for name in ("initial_steps", "final_steps", "mask_interval"))
        kind = SVDLinear if self.triplets else DoubletLinear
        self.modules = replace_modules(model, targets, lambda base: kind(base, config))
        self.by_shape = by_shape(list(self.modules.values()))
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
        norms = [gram_distance(M, columns=M is P) for Q, P in self.factors() for M in (Q, P)]
        return self.config.orthogonality * torch.cat(norms).mean()

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """All Q and P, stacked by shape."""
        return stacks(self.by_shape)

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
        left, b_T = int(self.mask.sum()), self.schedule.b_T
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
    groups = alike(parameter.shape for parameter in parameters)
    return [Stack(rows, [parameters[row] for row in rows], slot_dim) for rows in groups]


METHOD = AdaLoRA
