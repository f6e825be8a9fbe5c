"""Save and load the trained part of a model: tensors by name, and metadata that says what they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from adalora.errors import UserError
from adalora.files.writing import new_folder
from adalora.methods.linear import AdaptedLinear
from adalora.methods.tensors import read_tensors

TENSORS, MEANING = "adapter.safetensors", "adapter.json"


def save_adapter(folder: Path, model: nn.Module, meaning: Mapping[str, Any]) -> None:
    """Save what was trained (adapter, head) and the frozen factors of increments, under the model's own names."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in own_parameters(model).items()}
    with new_folder(folder) as new:
        save_file(tensors, new / TENSORS)
        (new / MEANING).write_text(json.dumps(meaning, indent=2) + "\n")


def load_adapter(folder: Path, model: nn.Module) -> None:
    """Load saved tensors into `model`, which has the method attached.

    Raises:
        UserError: the files can't be read, or belong to another model or setting.
    """
    tensors = read_tensors(folder / TENSORS, "run it again")
    parameters = own_parameters(model)
    unlike = sorted(
        parameters.keys() ^ tensors.keys()
        | {name for name in parameters.keys() & tensors.keys() if parameters[name].shape != tensors[name].shape}
    )
    if unlike:
        raise UserError(f"the adapter in {folder} was trained with another model or configuration: {unlike[0]} differs")
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The tensors that a run adds to its backbone: trained parameters, and the frozen factors of increments."""
    frozen = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, AdaptedLinear)
        for name in module.frozen
    }
    return {name: p for name, p in model.named_parameters() if p.requires_grad or name in frozen}
