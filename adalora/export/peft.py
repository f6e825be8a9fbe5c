"""Export an adapter for `peft.PeftModel.from_pretrained`.

A method whose modules have `low_rank_factors()` becomes PEFT's LoRA: y = W x + B A x with the scale folded into B, so
alpha = rank in `alpha_pattern` and `rank_pattern`; modules of rank 0 are left out. So does AdaLoRA by default: this
form loads everywhere, also in servers that know no other, and PEFT warns of every key of its own AdaLoRA's rank
pattern. In the form `adalora` it stays AdaLoRA, with the surviving triplets and a boolean pattern from which PEFT
infers the number of slots: `method.init_from` of AdaLoRA starts from it. Runs of `method=peft` use PEFT's own format.
Head and fully trained modules are included as `modules_to_save`.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, cast

import peft
from safetensors.torch import save_file
from torch import Tensor, nn

from adalora.errors import UserError
from adalora.methods.adalora.layer import AdaLoRA, SVDLinear
from adalora.methods.init_from import PREFIX
from adalora.methods.linear import AdaptedLinear, unmergeable
from adalora.methods.options import given
from adalora.methods.peft.injection import ADAPTER
from adalora.methods.peft.layer import PEFT
from adalora.methods.protocol import Method

Form = Literal["lora", "adalora"]
Adapter = tuple[Any, dict[str, Tensor]]  # PEFT's config, and its tensors


def save(
    folder: Path, model: nn.Module, method: Method, whole: Sequence[str], base: str | None, task_type: str, form: Form
) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    Args:
        folder: an existing folder.
        model: the trained model with the method attached.
        method: the method.
        whole: the head's and other fully trained modules.
        base: hub id or folder of the backbone, if it has one.
        task_type: PEFT's task type, such as SEQ_CLS.
        form: of AdaLoRA's triplets.

    Raises:
        UserError: PEFT can't express the adapter; the message says why.
    """
    config, tensors = adapter(model, method, form)
    config.task_type = task_type
    whole = with_tied(model, whole)
    config.modules_to_save = whole or None
    config.base_model_name_or_path = base
    config.inference_mode = True
    for name in whole:
        for key, parameter in model.get_submodule(name).named_parameters():
            tensors[f"{PREFIX}{name}.{key}"] = parameter
    config.save_pretrained(str(folder))
    ready = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    save_file(ready, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def with_tied(model: nn.Module, modules: Sequence[str]) -> list[str]:
    """The modules, and those that share a tensor with one of them: PEFT replaces each by a copy, which unties them."""
    own = {id(p) for name in modules for p in model.get_submodule(name).parameters()}
    tied = [
        path
        for path, module in model.named_modules()
        if any(id(p) in own for p in module.parameters(recurse=False))
        and not any(f"{path}.".startswith(f"{name}.") for name in modules)
    ]
    return [*modules, *tied]


def adapter(model: nn.Module, method: Method, form: Form) -> Adapter:
    """PEFT's config and tensors, without the head. Raises `UserError`."""
    modules = {path: module for path, module in model.named_modules() if isinstance(module, AdaptedLinear)}
    if reason := unmergeable(model):
        raise UserError(f"PEFT can't express this adapter: {reason}")
    if isinstance(method, PEFT):
        return own(method)
    if form == "adalora":
        if isinstance(method, AdaLoRA) and method.triplets:
            return triplets(method)
        raise UserError(
            f"--form adalora is for AdaLoRA's triplets, which {method.config.name} doesn't have: leave it out"
        )
    name = method.config.name
    if not modules:
        raise UserError(f"{name} adds no increment to a linear layer, so PEFT has no format for it: try --to merged")
    return low_rank(modules, name)


def low_rank(modules: dict[str, AdaptedLinear], name: str) -> Adapter:
    """PEFT's LoRA, with each module's own rank."""
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for path, module in modules.items():
        if (factors := module.low_rank_factors()) is None:
            raise UserError(f"{name}'s increment has no low-rank factors, which PEFT's LoRA needs: use --to merged")
        if rank := factors[0].shape[0]:
            ranks[path] = rank
            for part, tensor in zip(("lora_A", "lora_B"), factors, strict=True):
                tensors[f"{PREFIX}{path}.{part}.weight"] = tensor
    if not ranks:
        raise UserError("every module has rank 0, so the adapter is empty: use --to merged")
    highest = max(ranks.values())
    others = {path: rank for path, rank in ranks.items() if rank != highest}
    config = peft.LoraConfig(
        r=highest, lora_alpha=highest, target_modules=list(ranks), rank_pattern=others, alpha_pattern=dict(others)
    )
    return config, tensors


def triplets(method: AdaLoRA) -> Adapter:
    """PEFT's AdaLoRA, with the surviving triplets."""
    config = method.config
    tensors: dict[str, Tensor] = {}
    pattern = {}
    for path, module in method.modules.items():
        assert isinstance(module, SVDLinear)
        alive = module.lora_E.squeeze(-1) != 0
        pattern[f"{path}.lora_E"] = alive.tolist()
        tensors[f"{PREFIX}{path}.lora_A"] = module.lora_A[alive]
        tensors[f"{PREFIX}{path}.lora_E"] = module.lora_E[alive]
        tensors[f"{PREFIX}{path}.lora_B"] = module.lora_B[:, alive]
    return (
        peft.AdaLoraConfig(
            init_r=given(config, "init_rank"),
            target_r=max(1, round(given(config, "target_rank"))),
            lora_alpha=cast(Any, config.alpha),  # PEFT only divides by it
            lora_dropout=config.dropout,
            target_modules=list(method.modules),
            rank_pattern=pattern,
            total_step=method.schedule.T,
            tinit=given(config, "initial_steps"),
            tfinal=given(config, "final_steps"),
            deltaT=given(config, "mask_interval"),
            beta1=config.beta1,
            beta2=config.beta2,
            orth_reg_weight=config.orthogonality,
        ),
        tensors,
    )


def own(method: PEFT) -> Adapter:
    """What PEFT itself saves of its tuner; for AdaLoRA with the rank pattern given by lambda."""
    if method.adaptive:
        method.options.rank_pattern = {
            f"{path}.lora_E.{ADAPTER}": (layer.lora_E[ADAPTER].squeeze(-1) != 0).tolist()
            for path, layer in method.layers.items()
        }
    whole: Any = nn.Module()  # PEFT saves from a PeftModel, whose tuner has this name
    whole.base_model, whole.peft_config = method.tuner, method.tuner.peft_config
    if method.adaptive:
        whole.resize_state_dict_by_rank_pattern = method.tuner.resize_state_dict_by_rank_pattern
    tensors: dict[str, Tensor] = peft.get_peft_model_state_dict(whole, save_embedding_layers=False)
    return deepcopy(method.options), tensors
