"""Load a finished run as a model."""

import json
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn
from transformers import PreTrainedTokenizerBase

from adalora.backbones.files import Weights
from adalora.backbones.load import load_tokenizer, locate
from adalora.backbones.options import Model
from adalora.config.schema import Budget, PlannedTraining, Recipe, Resolved, WandbOptions
from adalora.errors import UserError
from adalora.files.reading import Damaged, library_reads, read_text
from adalora.methods.adapter import load_adapter
from adalora.methods.discovery import METHODS
from adalora.methods.protocol import Method
from adalora.planning.identity import MODEL_OPTIONS
from adalora.records.result import read_finished
from adalora.training.build import build_model
from tasks.discovery import TASKS
from tasks.options import Task


@dataclass(frozen=True)
class Trained:
    """The parts of a run, with the model in evaluation mode on the CPU."""

    config: Resolved
    result: dict[str, Any]
    weights: Weights
    model: nn.Module
    method: Method
    tokenizer: PreTrainedTokenizerBase


def load_run(folder: Path, backbone: str | None = None) -> Trained:
    """Build the model of a finished run: backbone, method and trained parameters.

    Args:
        folder: the run.
        backbone: the folder of its backbone, if that isn't where it was.

    Raises:
        UserError: the run isn't finished, or its backbone has changed.
    """
    config, result = load_config(folder), read_finished(folder).as_dict()
    if backbone is not None:
        config = replace(config, model=replace(config.model, path=backbone))
    check_same(folder, config, result)
    if config.model.path and not Path(config.model.path).expanduser().is_dir():
        where = "--model-path FOLDER (scripts.export) or model.path=FOLDER (scripts.evaluate)"
        raise UserError(f"the backbone of {folder} isn't at {config.model.path} any more: say where it is with {where}")
    weights = locate(config.model, config.cache_dir)
    if weights.digest != result["model"]["digest"]:
        raise UserError(f"{weights.folder} is not the backbone that {folder} was trained on: its content differs")
    torch.manual_seed(config.seed)  # redraws the frozen random parts of a method
    model, method = build_model(config, weights, config.task.outputs, torch.device("cpu"))
    method.allocate(result["ranks"])
    load_adapter(folder / "adapter", model)
    label(model, config.task.classes)
    return Trained(config, result, weights, model.eval(), method, load_tokenizer(config.model, weights))


def load_config(folder: Path) -> Resolved:
    """Read the resolved configuration from config.yaml. Raises `Damaged` if it can't be read."""
    if folder.is_file():
        raise UserError(f"{folder} is a file: give the folder of a finished run; a record has no weights")
    path, remedy = folder / "config.yaml", "give the folder of a finished run, or run it again"
    text = read_text(path, remedy)
    with library_reads(path, f"it isn't the configuration of a run, {remedy}"):
        raw: Any = OmegaConf.to_container(OmegaConf.create(text))
        raw["method"].pop("init_from", None)  # the initial adapter isn't needed
        raw["model"].pop("n_targets", None)  # options until 2026-11
        raw["task"].pop("direction", None)
        name = raw["method"]["name"]
        if name not in METHODS:
            raise Damaged(path, f"there is no method {name}", "install the package that provides it")
        types = {
            "model": Model,
            "task": max(TASKS.values(), key=partial(fits, raw)),
            "method": METHODS[name],
            "budget": Budget,
            "recipe": Recipe,
            "training": PlannedTraining,
            "wandb": WandbOptions,
        }
        parts = {
            name: OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), raw[name]))
            for name, kind in types.items()
        }
        return Resolved(**(raw | parts))


def fits(raw: dict[str, Any], task: type[Task]) -> tuple[bool, int]:
    """How well a type of task fits a run's configuration: whether it has the model's class, and how many of its
    options."""
    served = {served.architecture for served in task.models.values()}
    return raw["model"]["architecture"] in served, len(raw["task"].keys() & {each.name for each in fields(task)})


def check_same(folder: Path, config: Resolved, result: dict[str, Any]) -> None:
    """Check the configuration against the result, which has a checksum. Raises `Damaged`."""
    model = {name: getattr(config.model, name) for name in MODEL_OPTIONS}
    for part, options in (("model", model), ("method", asdict(config.method))):
        for key, value in json.loads(json.dumps(options)).items():
            recorded = result[part].get(key, value)  # runs older than an option have its default
            if key != "init_from" and value != recorded:
                reason = f"{part}.{key} is {value}, and {recorded} in result.json"
                raise Damaged(folder / "config.yaml", reason, "restore the run's own file, or run it again")


def label(model: Any, labels: list[str]) -> None:
    """Set the class names of a classifier."""
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {name: i for i, name in enumerate(labels)}
