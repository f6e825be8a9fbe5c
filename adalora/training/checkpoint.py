"""Checkpoints: trained parameters and training state, written atomically.

A checkpoint is a folder `step-<n>` with `state.safetensors` and `state.json`, which has the checksums of both. The last
two are kept, so a damaged one costs at most the steps since the one before.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt, PositiveInt
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from adalora.errors import UserError
from adalora.files.reading import Damaged, read_json, sealed
from adalora.files.writing import new_folder, sha256, write_json
from adalora.methods.protocol import Method
from adalora.methods.tensors import read_tensors

KEPT = 2
TENSORS, STATE = "state.safetensors", "state.json"
REMEDY = "remove the folder to start this run over"


@dataclass
class Progress:
    """Progress of a run, saved in its checkpoints."""

    step: NonNegativeInt = 0
    skipped: NonNegativeInt = 0  # fp16: batches whose step was skipped
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    best_step: NonNegativeInt = 0
    seconds: NonNegativeFloat = 0.0  # training and evaluation, over all sessions

    def record(self, results: dict[str, float], headline: str, direction: str) -> None:
        """Record the last evaluation and the best; the earliest wins ties (D-last-best)."""
        sign = 1 if direction == "max" else -1
        self.last = results
        if not self.best or sign * results[headline] > sign * self.best[headline]:
            self.best, self.best_step = results, self.step


class State(BaseModel):
    """The content of state.json."""

    step: PositiveInt
    tensors: str  # SHA-256 of state.safetensors
    groups: list[dict[str, Any]]  # of the optimizer
    progress: Progress
    scaler: dict[str, Any]
    processes: PositiveInt
    logs: dict[str, str]  # SHA-256 of each log, by name


def save(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write the checkpoint of `step` and delete all but it and the one before: later ones are damaged.

    Raises:
        UserError: it can't be written; earlier ones are kept.
    """
    with new_folder(path := folder / f"step-{step:08d}") as new:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, new / TENSORS)
        write_json(new / STATE, sealed(state | {"step": step, "tensors": sha256(new / TENSORS)}))
    kept = [each for each in steps(folder) if each <= path][-KEPT:]
    for old in set(steps(folder)) - set(kept):
        shutil.rmtree(old, ignore_errors=True)  # the new one is safe


def load(folder: Path) -> tuple[dict[str, Tensor], State, list[str]] | None:
    """Load the newest valid checkpoint, and name the damaged newer ones; None if there is no checkpoint.

    Raises:
        UserError: all checkpoints are damaged.
    """
    damaged: list[str] = []
    for path in reversed(steps(folder)):
        try:
            state = read_json(path / STATE, State, REMEDY)
            tensors = read_tensors(path / TENSORS, REMEDY)
            if state.tensors != sha256(path / TENSORS):
                raise Damaged(path / TENSORS, "its checksum differs", REMEDY)
        except Damaged:
            damaged.append(path.name)
        else:
            return tensors, state, damaged
    if damaged:
        raise UserError(f"all checkpoints in {folder} are damaged ({', '.join(damaged)}): {REMEDY}")
    return None


def steps(folder: Path) -> list[Path]:
    """The checkpoint folders in order of steps."""
    return sorted(folder.glob("step-*"))


def collect(model: nn.Module, optimizer: Optimizer, method: Method) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Collect the state shared by all processes: trained parameters, optimizer, method.

    Returns:
        Tensors by name, and the optimizer's groups with their parameters' names.
    """
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
    return tensors, groups


def restore(
    tensors: dict[str, Tensor], groups: list[dict[str, Any]], model: nn.Module, optimizer: Optimizer, method: Method
) -> None:
    """Restore what `collect` returned into newly built objects."""
    method.load_state_dict(section(tensors, "method/"))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in section(tensors, "model/").items():
            parameters[name].copy_(tensor)
    optimizer.param_groups.clear()
    for group in groups:
        options = {key: tuple(value) if key == "betas" else value for key, value in group.items() if key != "names"}
        optimizer.add_param_group({"params": [parameters[name] for name in group["names"]], **options})
    for name, tensor in section(tensors, "optimizer/").items():
        key, _, parameter = name.partition("/")
        # AdamW's step count is a CPU tensor unless the optimizer is fused on the device
        optimizer.state[parameters[parameter]][key] = tensor.to(parameters[parameter].device)


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, with the prefix removed."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def random_state() -> dict[str, Tensor]:
    """The state of this process's random generators."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def set_random_state(state: dict[str, Tensor]) -> None:
    """Restore `random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
