"""IncreLoRA (Zhang F. et al., arXiv 2308.12043), after its released code (FeiyuZhang98/IncreLoRA).

    y = W x + b + alpha / (r + 1e-5) B diag(E) A dropout(x)

with A (r, d_in), E (r, 1), B (d_out, r). r is the module's current rank, which starts at `init_rank`; the divisor grows
with it (`rescale` keeps the update unchanged). A, B ~ N(0, 0.02^2), E = 0.

After step 0 every module has `add_rank` reserve ranks, whose A and B learn in advance while E is fixed at 1e-5. Each
step scores the modules by their increment dW and its gradient G of the task loss:

    S = sum |dW o G| / sqrt(d_out d_in),   G = dL/d(dW),

smoothed as in AdaLoRA to I_bar U_bar. Every `interval` steps the `top_h` best modules activate their reserve and get a
new one, until the total rank is n `target_rank`; then the remaining reserve is silenced (E = 0). Each growth adds an
optimizer group whose learning rate warms up from zero. Loss: task loss + gamma R, with R as in AdaLoRA over all rows,
including the reserve's. stack.py computes S and R.

Autograd doesn't compute G: while ranks grow, it is accumulated in the backward pass over all calls of a module,
micro-batches and processes. Parameters: sum of r_k (d_in + d_out + 1), plus A and B of the reserve in training.

Deviations from paper and released code (docs/deviations.md): D-incre-score, D-incre-calls,
D-incre-scale, D-incre-total, D-incre-ties, D-incre-order, D-incre-groups, D-incre-reserve, D-incre-dense.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from adalora.errors import UserError
from adalora.methods.allocation import Importance
from adalora.methods.increlora.options import IncreLoRAConfig
from adalora.methods.increlora.stack import Stack
from adalora.methods.linear import replace_modules
from adalora.methods.low_rank import LowRankLinear, alike
from adalora.methods.protocol import Method, check_groups
from adalora.methods.tensors import own_dtype

SILENT = 1e-5  # E of the reserve (released code)


class GrowingLinear(LowRankLinear):
    """An adapted module: `rank` active slots, followed by the reserve's.

    Each factor is a list of chunks along the slots, one per growth, because AdamW has one step count and learning rate
    per tensor and each growth needs its own. `lora_A` (g, d_in) and `lora_B` (d_out, g) cover all slots, `lora_E` (g,
    1) the active ones; `silent` (reserve, 1) is the constant E of the reserve. `gradient` (d_out, d_in), if set,
    accumulates G.
    """

    def __init__(self, base: nn.Linear, config: IncreLoRAConfig) -> None:
        super().__init__(base)
        self.alpha, self.dropout = config.alpha, config.dropout
        self.gradient: Tensor | None = None
        self.build([config.init_rank], [config.init_rank])
        nn.init.normal_(self.lora_A[0], std=config.init_std)
        nn.init.normal_(self.lora_B[0], std=config.init_std)

    def build(self, active: list[int], slots: list[int]) -> None:
        """Allocate zero chunks of these sizes for E, and for A and B."""
        self.rank = sum(active)
        self.lora_A = nn.ParameterList(self.zeros(g, self.in_features) for g in slots)
        self.lora_E = nn.ParameterList(self.zeros(g, 1) for g in active)
        self.lora_B = nn.ParameterList(self.zeros(self.out_features, g) for g in slots)
        self.silent = self.zeros(sum(slots) - self.rank, 1).data

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank + 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out). The reserve is included, so that a model merged for evaluation computes the same
        as in training (D-incre-reserve)."""
        A, E, B = self.slots()
        z = F.dropout(x, self.dropout, self.training)
        y = self.base(x) + self.scale * (z @ A.mT * E.mT) @ B.mT
        return self.observed(y, x, z)

    def slots(self) -> tuple[Tensor, Tensor, Tensor]:
        """A (slots, d_in), E (slots, 1), B (d_out, slots)."""
        return (
            torch.cat(tuple(self.lora_A)),
            torch.cat((*self.lora_E, self.silent.to(self.lora_A[0]))),
            torch.cat(tuple(self.lora_B), 1),
        )

    def observed(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """y, whose gradient will be added to G with z."""
        if self.gradient is not None and y.requires_grad:
            seen = z.detach()
            y.register_hook(lambda gradient: self.gather(gradient, seen))
        return y

    def gather(self, gradient: Tensor, x: Tensor) -> None:
        """G += sum over tokens of dL/dy x^T, of y (..., d_out) and x (..., d_in).

        Computed in the gradient's precision, but in fp32 for fp16: the loss scaler brings the trained gradients close
        to overflow, and G is larger than they are.
        """
        assert self.gradient is not None
        dtype = torch.float32 if gradient.dtype == torch.float16 else gradient.dtype
        with own_dtype(x):
            self.gradient += gradient.to(dtype).flatten(0, -2).mT @ x.to(dtype).flatten(0, -2)


class IncreLoRA(Method[IncreLoRAConfig]):
    """Grow ranks from `init_rank` per module to a mean of `target_rank`, where they matter most."""

    # -- training

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        config = self.config
        self.modules = replace_modules(model, targets, lambda base: GrowingLinear(base, config))
        self.growth = config.growth(len(targets), total_steps)
        # the same on every process, and independent of dropout's draws
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        modules = self._modules = list(self.modules.values())
        groups = alike(module.weight.shape for module in modules)
        self.stacks = [Stack(rows, [modules[row] for row in rows]) for rows in groups]
        some = modules[0].lora_A[0].data
        self.order = torch.tensor([row for stack in self.stacks for row in stack.rows]).argsort().to(some.device)
        self.S = some.new_zeros(len(modules))
        self.importance = Importance.like(self.S)
        self.threshold = some.new_full((), float("nan"))
        self._look_again()

    @property
    def total(self) -> int:
        """Total active rank of all modules."""
        return sum(module.rank for module in self._modules)

    def regulariser(self) -> Tensor:
        """gamma R."""
        if self.config.orthogonality == 0:
            return torch.zeros(())
        return self.config.orthogonality * torch.cat([stack.orthogonality() for stack in self.stacks]).mean()

    @torch.no_grad()
    def before_step(self, t: int, optimizer: Optimizer) -> None:
        """Score with this step's dW and G, and grow if it is due, which is the only wait for the device."""
        if not self.growing:
            return
        S = torch.cat([stack.score() for stack in self.stacks])[self.order]
        if (scaler := getattr(optimizer, "scaler", None)) is not None:  # fp16: G is of the scaled loss
            S = S / scaler.get_scale()
        self.S = S
        self.importance.average(S, self.config.beta1, self.config.beta2)
        if t == 0:
            check_groups(self, optimizer)
            self._open(optimizer, t, [p for module in self._modules for p in self._reserve(module, self.growth.add)])
        elif self.growth.due(t):
            self._grow(t, optimizer)

    def skip_step(self) -> None:
        for stack in self.stacks:
            stack.forget()

    def _grow(self, t: int, optimizer: Optimizer) -> None:
        scores = self.importance.score()
        order = torch.argsort(scores, descending=True, stable=True)
        amounts = self.growth.amounts(self.total)
        self.threshold = scores[order[len(amounts) - 1]]
        if not self.growth.exact:  # ties with the last one are chosen too
            amounts = [self.growth.add] * int((scores >= self.threshold).sum())
        added: list[nn.Parameter] = []
        for row, g in zip(order.tolist(), amounts, strict=False):
            module = self._modules[row]
            old = module.scale
            module.lora_E.append(module.silent[:g].clone())  # the active slots end where the reserve began
            module.rank += g
            if self.config.rescale:
                torch._foreach_mul_(list(module.lora_E), old / module.scale)
            added.append(module.lora_E[-1])
            if not self.config.advance_learning:
                added += [module.lora_A[-1].requires_grad_(), module.lora_B[-1].requires_grad_()]
            module.silent = module.silent[g:]
            added += self._reserve(module, g)
        self._open(optimizer, t, added)

    def _reserve(self, module: GrowingLinear, g: int) -> list[nn.Parameter]:
        """Add g reserve slots to a module, and return their trained parameters."""
        learns, std, like = self.config.advance_learning, self.config.init_std, module.silent
        for factor, shape in ((module.lora_A, (g, module.in_features)), (module.lora_B, (module.out_features, g))):
            values = torch.empty(shape, dtype=like.dtype).normal_(std=std, generator=self.generator)
            factor.append(nn.Parameter(values.to(like.device), requires_grad=learns))
        module.silent = torch.cat([module.silent, like.new_full((g, 1), SILENT if learns else 0.0)])
        return [module.lora_A[-1], module.lora_B[-1]] if learns else []

    def _open(self, optimizer: Optimizer, t: int, added: list[nn.Parameter]) -> None:
        """Add an optimizer group (see training/optimizer.py) for parameters added after step t."""
        if added:
            born = t if self.config.restart_warmup else 0
            optimizer.add_param_group({"params": added, "peak_lr": optimizer.defaults["lr"], "born": born})
        self._look_again()

    def _look_again(self) -> None:
        """Recompute everything derived from the current ranks."""
        total = self.total
        self.growing = total < self.growth.target
        if total == self.growth.target:
            for module in self._modules:
                module.silent = torch.zeros_like(module.silent)
        for stack in self.stacks:
            stack.reindex()
            if self.growing != (stack.G is not None):
                stack.watch(self.growing)

    # -- results and resume

    def ranks(self) -> dict[str, int]:
        return {name: module.rank for name, module in self.modules.items()}

    def kept(self) -> int:
        return sum(m.rank * (m.in_features + m.out_features + 1) for m in self._modules)

    def check_end(self) -> None:
        """Check that the target is reached; `compat=released` may end above it."""
        total, target = self.total, self.growth.target
        if total < target or (self.growth.exact and total > target):
            raise UserError(f"IncreLoRA ended at a total rank of {total} instead of {target}")

    def peak(self) -> int:
        chunks = [p for m in self._modules for p in (*m.lora_A, *m.lora_E, *m.lora_B)]
        return sum(p.numel() for p in chunks if p.requires_grad)

    def metrics(self) -> dict[str, Tensor | float]:
        return {"budget": float(self.total), "threshold": self.threshold}

    def state_dict(self) -> dict[str, Tensor]:
        state = {
            "ranks": torch.tensor([module.rank for module in self._modules]),
            "reserve": torch.tensor(len(self._modules[0].silent)),
            "sensitivity": self.importance.sensitivity,
            "uncertainty": self.importance.uncertainty,
            "threshold": self.threshold,
            "generator": self.generator.get_state(),
        }
        # a checkpoint has trained parameters only, so constant ones are here
        for i, module in enumerate(self._modules):
            frozen = {"A": module.lora_A[-1], "B": module.lora_B[-1]}
            state |= {f"{key}.{i}": p.detach() for key, p in frozen.items() if not p.requires_grad}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        first, add, reserve = self.config.init_rank, self.growth.add, int(state["reserve"])
        for i, (module, rank) in enumerate(zip(self._modules, state["ranks"].tolist(), strict=True)):
            whole, rest = divmod(rank - first, add)  # only the last growth adds less than `add`
            grown = [add] * whole + [rest] * (rest > 0)
            module.build([first, *grown], [first, *([reserve] if reserve else []), *grown])
            module.silent.fill_(SILENT if self.config.advance_learning else 0.0)
            for key, factor in {"A": module.lora_A, "B": module.lora_B}.items():
                if f"{key}.{i}" in state:
                    factor[-1].requires_grad_(False).copy_(state[f"{key}.{i}"])
        self.importance.sensitivity.copy_(state["sensitivity"])
        self.importance.uncertainty.copy_(state["uncertainty"])
        self.threshold = state["threshold"].to(self.threshold)
        self.generator.set_state(state["generator"].cpu())
        self._look_again()

    def allocate(self, ranks: Mapping[str, int]) -> None:
        """Rebuild the modules with these ranks and without reserve, all values 0."""
        for name, module in self.modules.items():
            module.build([ranks[name]], [ranks[name]])
        self._look_again()

    @torch.no_grad()
    def finish(self) -> None:
        """Drop the reserve, and join the chunks of each factor."""
        factors = {name: module.slots() for name, module in self.modules.items()}
        self.allocate(self.ranks())
        for name, (A, E, B) in factors.items():
            module = self.modules[name]
            r = module.rank
            module.lora_A[0].copy_(A[:r])
            module.lora_E[0].copy_(E[:r])
            module.lora_B[0].copy_(B[:, :r])


METHOD = IncreLoRA
