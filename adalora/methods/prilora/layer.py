"""PRILoRA (Benedek and Wolf, Findings of EACL 2024, arXiv 2401.11316): ranks grow with the layer, A is pruned.

    y = W x + b + (alpha / r_l) B A dropout(x),   A (r_l, d_in), B (d_out, r_l)

LoRA's layer with LoRA's initial values. All modules of layer l = 1 .. L have rank

    r_l = r_s + (r_f - r_s) (l - 1) / (L - 1),   r_s, r_f = mean_rank (1 -+ spread)

rounded to integers (`linear_ranks`); encoder and decoder each go from r_s to r_f. After every optimizer step the norm
of each input feature over the batch's tokens enters a running average. Every `mask_interval` steps, and after the last
one, the least important share rho of each row of A is set to 0:

    n <- beta n + (1 - beta) m,   m_j = sqrt(sum over tokens of x_j^2);     S_ij = |A_ij| n_j

Pruned entries keep gradient and moments and can grow back until the next pruning. n starts at 0 without bias
correction, because its scale doesn't affect the order. Parameters: sum of r_l (d_in + d_out), before and after pruning;
the remaining entries are logged as `nonzero`.

The paper's text and code were not available. Choices of ours and deviations (docs/deviations.md):
D-prilora-ranks, D-prilora-scale, D-prilora-pruning, D-prilora-input, D-prilora-last, D-prilora-moments,
D-prilora-count.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from adalora.methods.linear import replace_modules
from adalora.methods.low_rank import LowRankLinear, alike
from adalora.methods.options import given
from adalora.methods.prilora.options import PRILoRAConfig
from adalora.methods.protocol import Method
from adalora.processes import several

IGNORED = -100  # the library's label for padding


class InputNorms:
    """sum over tokens of x_j^2 for the input of every module, over the forward passes of one optimizer step.

    Only a module's first input of a pass counts: DeBERTa calls query and key again for relative positions. The masks of
    the model's arguments exclude padding, each in its own stack (D-prilora-input).
    """

    def __init__(self) -> None:
        self.sums: dict[int, Tensor] = {}  # module's index -> (d_in,) in fp32 or wider
        self.start_pass(None, (), {})

    def __getstate__(self) -> dict[str, Any]:
        """Copy without the last input, which is part of an autograd graph and can't be copied."""
        return self.__dict__ | {"last": None}

    def start_pass(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the model: a new pass begins, with these masks."""
        source, target, labels = (kwargs.get(name) for name in ("attention_mask", "decoder_attention_mask", "labels"))
        if source is not None and source.dim() == 4:  # (b, 1, 1, s) of fused attention
            source = source[:, 0, 0]
        if target is None and labels is not None:  # the decoder of an encoder-decoder sees them shifted by one
            target = labels != IGNORED
        self.masks = source, target
        self.seen: set[int] = set()
        self.last: tuple[Tensor, Tensor] | None = None  # the last input, and its squared norms

    @torch.no_grad()
    def add(self, position: int, x: Tensor, in_target: bool) -> None:
        """Add x (..., d_in), the input of a module, at positions of an encoder-decoder's target or not."""
        if position in self.seen:
            return
        self.seen.add(position)
        if self.last is None or self.last[0] is not x:  # query, key and value share an input
            squares = x.detach().to(torch.promote_types(x.dtype, torch.float32)).square().flatten(0, -2)
            mask = self.masks[in_target]
            if mask is not None and mask.shape == x.shape[:-1]:
                squares *= mask.reshape(-1, 1)  # no matrix product: autocast would round it
            self.last = x, squares.sum(0)
        found = self.last[1]
        self.sums[position] = self.sums[position] + found if position in self.sums else found

    def take(self, n: int) -> list[Tensor]:
        """m (d_in,) of the n modules, over all processes; resets the sums.

        Raises:
            RuntimeError: a module has had no input in training since the last call.
        """
        if len(self.sums) < n:
            raise RuntimeError(
                "PRILoRA needs the inputs of every adapted module: adapt only modules that each forward pass "
                "uses, and call after_step(t) once after the passes of a step, made in training mode"
            )
        sums = [self.sums[position] for position in range(n)]
        if several():
            whole = torch.cat(sums)
            distributed.all_reduce(whole)
            sums = list(whole.split([part.numel() for part in sums]))
        self.forget()
        return list(torch._foreach_sqrt(sums))

    def forget(self) -> None:
        """Reset the sums for the next step."""
        self.sums, self.last = {}, None


def in_target(path: str) -> bool:
    """Whether a module's inputs are at positions of an encoder-decoder's target: cross-attention's keys and values are
    of the source."""
    *parents, name = path.split(".")
    return "decoder" in parents and not ("encoder_attn" in parents and name in ("k_proj", "v_proj"))


class WatchedLinear(LowRankLinear):
    """One adapted module: `lora_A` (r, d_in), `lora_B` (d_out, r). It records its inputs in training."""

    def __init__(
        self, base: nn.Linear, config: PRILoRAConfig, rank: int, position: int, in_target: bool, inputs: InputNorms
    ) -> None:
        super().__init__(base)
        self.scale, self.dropout = config.alpha / rank, config.dropout
        self.position, self.in_target, self.inputs = position, in_target, inputs
        self.lora_A, self.lora_B = self.zeros(rank, base.in_features), self.zeros(base.out_features, rank)
        nn.init.normal_(self.lora_A, std=config.init_std)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        z = F.dropout(x, self.dropout, self.training)
        y = self.base(x) + self.scale * (z @ self.lora_A.mT) @ self.lora_B.mT
        return self.observed(y, x, z)

    def observed(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """y; in training, x is added to the squared norms."""
        if self.training and torch.is_grad_enabled():
            self.inputs.add(self.position, x, self.in_target)
        return y


class PRILoRA(Method[PRILoRAConfig]):
    """PRILoRA: LoRA with ranks of mean `mean_rank` and a share `sparsity` of A pruned."""

    reads_inputs = True

    # -- training

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        config = self.config
        self.t_i, self.interval = given(config, "initial_steps"), given(config, "mask_interval")
        self.total_steps, self.inputs = total_steps, InputNorms()
        self.modules: dict[str, WatchedLinear] = {}
        for position, (path, rank) in enumerate(config.ranks_of(targets).items()):
            target = in_target(path)
            build = partial(
                WatchedLinear, config=config, rank=rank, position=position, in_target=target, inputs=self.inputs
            )
            self.modules |= replace_modules(model, {path: targets[path]}, build)
        hook = model.register_forward_pre_hook(self.inputs.start_pass, with_kwargs=True)
        for module in self.modules.values():
            module.undo += (hook.remove,)
        self.factors: list[Tensor] = [module.lora_A for module in self.modules.values()]
        self.norms = [A.new_zeros(A.shape[1], dtype=torch.promote_types(A.dtype, torch.float32)) for A in self.factors]

    def after_step(self, t: int) -> None:
        """Update the average norms, and prune if it is due."""
        config = self.config
        torch._foreach_lerp_(self.norms, self.inputs.take(len(self.norms)), 1 - config.beta)
        due = t >= self.t_i and (t + 1) % self.interval == 0
        if config.sparsity and (due or t == self.total_steps - 1):
            self.prune()

    def skip_step(self) -> None:
        self.inputs.forget()

    @torch.no_grad()
    def prune(self) -> None:
        """A_ij <- 0 for the round(rho d_in) lowest S_ij of each row i, for all rows of a width at once. Ties are pruned
        in order of feature."""
        for chosen in alike(A.shape[1] for A in self.factors):
            d_in = self.factors[chosen[0]].shape[1]
            factors = [self.factors[i] for i in chosen]
            ranks = [len(A) for A in factors]
            repeats = torch.tensor(ranks, device=factors[0].device)
            norms = torch.stack([self.norms[i] for i in chosen]).repeat_interleave(repeats, 0, output_size=sum(ranks))
            rows = torch.cat(factors)
            lowest = (rows.abs() * norms).argsort(dim=1, stable=True)[:, : round(self.config.sparsity * d_in)]
            torch._foreach_copy_(factors, rows.scatter_(1, lowest, 0.0).split(ranks))

    # -- results and resume

    def ranks(self) -> dict[str, int]:
        return {path: module.lora_A.shape[0] for path, module in self.modules.items()}

    def metrics(self) -> dict[str, Tensor | float]:
        """Nonzero entries of A and B: what sparse storage of A would hold."""
        whole = sum(module.lora_B.numel() for module in self.modules.values())
        return {"nonzero": whole + torch.stack([A.detach().count_nonzero() for A in self.factors]).sum()}

    def state_dict(self) -> dict[str, Tensor]:
        return {"norms": torch.cat(self.norms)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        parts = state["norms"].to(self.norms[0].device).split([norm.numel() for norm in self.norms])
        torch._foreach_copy_(self.norms, parts)


METHOD = PRILoRA
