"""Start from a PEFT adapter instead of fresh values (`method.init_from`).

The model computes PEFT's function from the first step: B (LoRA) or lambda (AdaLoRA) absorbs a difference in scale.
Every module gets all of its slots; those missing from the adapter are fresh and have no effect (B or lambda is 0). So
AdaLoRA's budget starts from the slots that exist and ends at b_T. PEFT's own resume keeps only the surviving slots but
subtracts from all, which prunes too many (docs/deviations.md: D-start).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adalora.errors import UserError
from adalora.files.reading import Damaged
from adalora.methods.options import MethodConfig, Shapes, given
from adalora.methods.saved_adapter import REMEDY, TENSORS, SavedAdapter
from adalora.methods.tensors import read_tensors

PREFIX = "base_model.model."
FACTORS = {"lora_A", "lora_B", "lora_E"}


@dataclass(frozen=True)
class InitialAdapter:
    """An adapter to start from."""

    adapter: SavedAdapter
    modules: dict[str, dict[str, Tensor]]  # factors by module
    rest: dict[str, Tensor]  # everything else (the head), by parameter name

    def describe(self) -> str:
        """What comes in, in one line: type, ranks, whether anything was pruned, and other modules."""
        kind = self.adapter.options["peft_type"]
        ranks = [
            int((factors["lora_E"] != 0).sum()) if "lora_E" in factors else len(factors["lora_A"])
            for factors in self.modules.values()
        ]
        if kind == "ADALORA":
            full = len(ranks) * self.adapter.options["init_r"]
            size = f"initial rank {self.rank}, "
            untouched = all(not factors["lora_E"].any() for factors in self.modules.values())
            if untouched or sum(ranks) == full:
                size += "never pruned"
            else:
                size += f"pruned to {sum(ranks):,} of {full:,} triplets ({min(ranks)} to {max(ranks)} a module)"
        else:
            size = f"rank {min(ranks)}" + (f" to {max(ranks)}" if min(ranks) < max(ranks) else "")
        rest = sorted({name.rpartition(".")[0] for name in self.rest})
        more = f", with {', '.join(rest)}" if rest else ""
        return f"starts from {self.adapter.folder.name}: {kind}, {size}, {len(ranks)} modules{more}"

    @property
    def rank(self) -> int:
        """The highest rank of any module; for AdaLoRA the initial rank."""
        return max(map(self.adapter.rank, self.modules), default=1)


def read_initial(config: MethodConfig) -> InitialAdapter | None:
    """Read the adapter that `config` starts from, if any. Raises `UserError`."""
    if (adapter := config.initial_adapter()) is None:
        return None
    path = adapter.folder / TENSORS
    tensors = read_tensors(path, REMEDY)
    modules: dict[str, dict[str, Tensor]] = {}
    rest = {}
    for key, tensor in tensors.items():
        if not (tensor.is_floating_point() and tensor.isfinite().all()):
            raise Damaged(path, f"{key} has values that aren't finite", REMEDY)
        name = key.removeprefix(PREFIX).removesuffix(".weight")
        module, _, last = name.rpartition(".")
        if last in FACTORS:
            if tensor.ndim != 2:
                raise Damaged(path, f"{key} is of shape {tuple(tensor.shape)}, not a matrix", REMEDY)
            modules.setdefault(module, {})[last] = tensor
        else:
            rest[key.removeprefix(PREFIX)] = tensor
    return InitialAdapter(adapter, modules, rest)


def check_initial(
    initial: InitialAdapter,
    config: MethodConfig,
    whole: list[str],
    trained: Mapping[str, tuple[str, tuple[int, ...]]],
    shapes: Shapes,
) -> None:
    """Reject an adapter of another base or task, by its shapes.

    Args:
        initial: the adapter.
        config: the method that starts from it.
        whole: the modules that are trained fully.
        trained: their parameters: each name, the name of the tensor that it may share with others, and its shape.
        shapes: of the adapted modules.

    Raises:
        UserError: it adapts a module that this run doesn't, has other shapes or a higher rank, or has unknown tensors.
    """
    where = f"method.init_from={initial.adapter.folder}"
    slots = given(config, config.rank_option or "rank")
    expected = FACTORS if initial.adapter.options["peft_type"] == "ADALORA" else FACTORS - {"lora_E"}
    for path, factors in initial.modules.items():
        if path not in shapes:
            raise UserError(f"{where} adapts {path}, which this run doesn't: the model or method.modules differ")
        if factors.keys() != expected:
            raise UserError(
                f"{where} has {', '.join(sorted(factors))} for {path}, but {', '.join(sorted(expected))} are needed"
            )
        d_out, d_in, rank = factors["lora_B"].shape[0], factors["lora_A"].shape[1], factors["lora_A"].shape[0]
        if (d_out, d_in) != shapes[path]:
            ours = " x ".join(map(str, shapes[path]))
            raise UserError(
                f"{where} was trained on another backbone: {path} is {d_out} x {d_in} there and {ours} here"
            )
        if {factors["lora_B"].shape[1], len(factors.get("lora_E", factors["lora_A"]))} != {rank}:
            raise UserError(f"{where} is damaged: the factors of {path} have different ranks")
        if "lora_E" not in factors and rank != initial.adapter.rank(path):
            raise UserError(
                f"{where} has rank {rank} at {path}, but {initial.adapter.rank(path)} by its r and rank_pattern: PEFT "
                "can't load it either"
            )
        if rank > slots:
            raise UserError(f"{where} has rank {rank} at {path}, more than this run's {slots}: leave it open")
    shared: dict[str, Tensor] = {}
    for name, tensor in initial.rest.items():
        if name not in trained:
            raise UserError(
                f"{where} holds {name}, which isn't trained here, where {', '.join(whole) or 'only the adapter'} "
                "is: if the model has it, list its module in task.train_modules"
            )
        first, shape = trained[name]
        if not torch.equal(shared.setdefault(first, tensor), tensor):
            raise UserError(f"{where}: {name} is one tensor with another here, but they differ there")
        if shape != tensor.shape:
            raise UserError(
                f"{where} was trained on another task: {name} is {tuple(tensor.shape)} there and {shape} here"
            )


@torch.no_grad()
def load_initial(config: MethodConfig, model: nn.Module) -> None:
    """Load the checked adapter, if there is one, into `model`, which has the method attached."""
    if (initial := read_initial(config)) is None:
        return
    for path, factors in initial.modules.items():
        module: Any = model.get_submodule(path)
        rank = factors["lora_A"].shape[0]
        module.lora_A[:rank] = factors["lora_A"].to(module.lora_A)
        if rank == 0:
            continue
        relative = initial.adapter.scale(path) / module.scale
        if "lora_E" in factors:
            module.lora_B[:, :rank] = factors["lora_B"].to(module.lora_B)
            module.lora_E[:rank] = factors["lora_E"].to(module.lora_E) * relative
        else:
            module.lora_B[:, :rank] = factors["lora_B"].to(module.lora_B) * relative
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in initial.rest.items():
        parameters[name].copy_(tensor)
