"""Any tuner of the PEFT library that adapts given linear layers, in the suite's loop.

Modules, head, budget and schedule are the suite's; the maths is PEFT's, with its defaults for what `method.config`
doesn't set (docs/deviations.md: D-peft). Parameters are counted by injecting the tuner into modules on the meta device.

The allocator of PEFT's AdaLoRA is called where its documentation says, after the optimizer step and before zero_grad,
with t from 0 (D-peft-t). Its orthogonality term is in the forward pass of a wrapper that this loop doesn't use, so it
is computed here with the same value: orth_reg_weight times

    R = mean over the 2n matrices of || A A^T - I ||_F and || B^T B - I ||_F.

The checkpoint includes its averages and rank pattern, which PEFT doesn't save.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adalora.errors import UserError
from adalora.methods.linear import check_mergeable
from adalora.methods.low_rank import alike, gram_distance
from adalora.methods.peft.injection import ADAPTER, inject
from adalora.methods.peft.options import PEFTConfig
from adalora.methods.protocol import Method
from adalora.methods.tensors import trained_dtype


class PEFT(Method[PEFTConfig]):
    """A PEFT tuner."""

    def __init__(self, config: PEFTConfig) -> None:
        super().__init__(config)
        self.adaptive = config.adaptive
        self.budget = 0

    # -- training

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        self.tuner = inject(self.config.type, self.config.config, model, list(targets), total_steps)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(trained_dtype(parameter))
        self.layers: dict[str, Any] = {path: model.get_submodule(path) for path in targets}
        self.options = self.tuner.peft_config[ADAPTER]
        if self.adaptive:
            layers = self.layers.values()
            self.A = [layer.lora_A[ADAPTER] for layer in layers]
            self.B = [layer.lora_B[ADAPTER] for layer in layers]
            self.allocator = self.tuner.rankallocator
            self.budget = self.allocator.init_bgt

    def regulariser(self) -> Tensor:
        if not self.adaptive or self.options.orth_reg_weight == 0:
            return torch.zeros(())
        norms = [gram_distance(A) for A in stacked(self.A)] + [gram_distance(B, columns=True) for B in stacked(self.B)]
        return self.options.orth_reg_weight * torch.cat(norms).mean()

    def after_step(self, t: int) -> None:
        if self.adaptive:
            self.tuner.update_and_allocate(t)
            self.budget = self.allocator.budget_schedule(t)[0]

    # -- results and resume

    @property
    def allocates(self) -> bool:
        return self.adaptive

    def ranks(self) -> dict[str, int]:
        if self.adaptive:
            pattern = self.options.rank_pattern
            return {
                path: sum(pattern[f"{path}.lora_E.{ADAPTER}"]) if pattern else layer.r[ADAPTER]
                for path, layer in self.layers.items()
            }
        if self.config.type == "LORA":
            return {path: layer.r[ADAPTER] for path, layer in self.layers.items()}
        return {}

    def kept(self) -> int | None:
        if not self.adaptive:
            return None
        return sum(
            rank * (layer.in_features + layer.out_features + 1)
            for rank, layer in zip(self.ranks().values(), self.layers.values(), strict=True)
        )

    def metrics(self) -> dict[str, Tensor | float]:
        return {"budget": float(self.budget)} if self.adaptive else {}

    def merge(self, model: nn.Module) -> None:
        check_mergeable(model)
        try:
            self.tuner.merge_and_unload(progressbar=False)
        except NotImplementedError as error:
            raise UserError(f"PEFT can't merge {self.config.type}: keep the adapter beside the base") from error

    def state_dict(self) -> dict[str, Tensor]:
        if not self.adaptive:
            return {}
        state = {f"sensitivity.{name}": value for name, value in self.allocator.exp_avg_ipt.items()}
        state |= {f"uncertainty.{name}": value for name, value in self.allocator.exp_avg_unc.items()}
        pattern = self.options.rank_pattern or {}
        return state | {f"pattern.{name}": torch.tensor(kept) for name, kept in pattern.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if not self.adaptive:
            return
        device = self.A[0].device
        parts: dict[str, dict[str, Tensor]] = {"sensitivity": {}, "uncertainty": {}, "pattern": {}}
        for key, value in state.items():
            section, _, name = key.partition(".")
            parts[section][name] = value.to(device)
        self.allocator.exp_avg_ipt, self.allocator.exp_avg_unc = parts["sensitivity"], parts["uncertainty"]
        # from the last step, overwritten by the next; PEFT takes its presence to mean that the averages exist
        self.allocator.ipt = {name: torch.zeros_like(value) for name, value in parts["sensitivity"].items()}
        if parts["pattern"]:
            self.options.rank_pattern = {name: kept.tolist() for name, kept in parts["pattern"].items()}


def stacked(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Stacks of equal shape."""
    return [torch.stack([parameters[i] for i in group]) for group in alike(p.shape for p in parameters)]


METHOD = PEFT
