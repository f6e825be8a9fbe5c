"""Checkpoints: what is trained and the state around it, written whole or not at all.

A checkpoint is a folder `step-<n>` with `state.safetensors` and `state.json`, which holds the
tensors' checksum. The last two are kept, so that a damaged one costs no more than the steps since
the one before it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from adalora.errors import UserError
from adalora.files import new_folder, sha256
from adalora.methods.protocol import Method

KEPT = 2
TENSORS, STATE = "state.safetensors", "state.json"


def save(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write the checkpoint of `step` and remove all but the newest two.

    Raises:
        UserError: it can't be written; the earlier ones are untouched.
    """
    with new_folder(folder / f"step-{step:08d}") as place:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, place / TENSORS)
        (place / STATE).write_text(json.dumps(state | {"step": step, "sha256": sha256(place / TENSORS)}))
    for old in steps(folder)[:-KEPT]:
        shutil.rmtree(old)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str]] | None:
    """The newest sound checkpoint and the names of damaged ones; None if there is none to go on from."""
    damaged: list[str] = []
    for place in reversed(steps(folder)):
        try:
            state = json.loads((place / STATE).read_text())
            if state["sha256"] != sha256(place / TENSORS):
                raise ValueError("checksum")
            return load_file(place / TENSORS), state, damaged
        except (OSError, ValueError, KeyError, SafetensorError):
            damaged.append(place.name)
    if damaged:
        raise UserError(
            f"all checkpoints in {folder} are damaged ({', '.join(damaged)}): remove the folder to start this run anew"
        )
    return None


def steps(folder: Path) -> list[Path]:
    """The checkpoints in order."""
    return sorted(folder.glob("step-*"))


def collect(model: nn.Module, optimizer: Optimizer, method: Method) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that decides the next step, beside each process's own: trained parameters, optimizer, method."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    names = {id(p): name for name, p in trained.items()}
    tensors = {f"model/{name}": p.detach() for name, p in trained.items()}
    tensors |= {f"method/{name}": value for name, value in method.state_dict().items()}
    groups = []
    for group in optimizer.param_groups:
        groups.append({key: value for key, value in group.items() if key != "params"})
        groups[-1]["names"] = [names[id(p)] for p in group["params"]]
        for parameter in group["params"]:
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{names[id(parameter)]}"] = value
    return tensors, {"groups": groups}


def restore(
    tensors: dict[str, Tensor], state: dict[str, Any], model: nn.Module, optimizer: Optimizer, method: Method
) -> None:
    """The inverse of `collect`, into freshly built parts."""
    method.load_state_dict(section(tensors, "method/"))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in section(tensors, "model/").items():
            parameters[name].copy_(tensor)
    optimizer.param_groups.clear()
    for group in state["groups"]:
        options = {key: tuple(value) if key == "betas" else value for key, value in group.items() if key != "names"}
        optimizer.add_param_group({"params": [parameters[name] for name in group["names"]], **options})
    for name, tensor in section(tensors, "optimizer/").items():
        key, _, parameter = name.partition("/")
        # AdamW's own count of steps is a CPU tensor unless the optimizer is fused on the device
        optimizer.state[parameters[parameter]][key] = tensor.to(parameters[parameter].device)


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, by the rest of the name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def random_state() -> dict[str, Tensor]:
    """The generators of this process."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def set_random_state(state: dict[str, Tensor]) -> None:
    """The inverse of `random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
