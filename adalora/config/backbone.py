"""Decide which backbone a configuration is about: the named one, or another one with its own architecture."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from adalora.backbones.options import DECODERS, GENERIC, differences
from adalora.errors import UserError
from adalora.paths import CONF


def settle(tree: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Read the architecture where the weights aren't those of `conf/model`, from config.json.

    The architecture decides. If the user's folder or repository has the named backbone's, it is that backbone.
    Otherwise the configuration is composed again as the generic model of the type, without the named one's name,
    published hyperparameters and sizes. Many decoders share an architecture, so a different decoder repository is
    always a different model. So is any repository given in place of a package.

    Args:
        tree: the composed configuration.
        overrides: what it was composed from, by the Hydra that is still initialised.

    Raises:
        UserError: config.json is missing or damaged, or a generic model has neither folder nor repository.
    """
    model = tree.get("model")
    found = config_folder(model) if model else None
    if found is None:
        return tree
    from adalora.backbones.load import read_architecture  # imports torch

    types = types_of(model)
    values = read_architecture(types, model.title if named(model) else f"model={GENERIC[types[0]]}", found)
    kind = values["model_type"]
    elsewhere = not model.path and (model.package or (kind in DECODERS and own_hub(model) is not None))
    if named(model) and (kind != model.model_type or elsewhere or differences(model.config, values)):
        kept = [override for override in overrides if override.partition("=")[0] != "model"]
        tree = hydra.compose("config", overrides=[*kept, f"model={GENERIC[kind]}"])
        model = tree.model
    if not named(model):
        source = model.path or model.hub
        model.model_type = kind
        model.title = f"{source_name(source)} ({kind})"
        if OmegaConf.is_missing(model, "name"):
            model.name = source_name(source)
    for key in model.config:
        model.config[key] = values[key]
    return tree


def types_of(model: DictConfig) -> tuple[str, ...]:
    """The types of architecture that a model may have."""
    one = None if OmegaConf.is_missing(model, "model_type") else model.model_type
    return DECODERS if one is None or one in DECODERS else (one,)


def named(model: DictConfig) -> bool:
    """Whether `conf/model` has the architecture."""
    return not any(OmegaConf.is_missing(model.config, key) for key in model.config)


def own_hub(model: DictConfig) -> str | None:
    """The repository that the named model's file in `conf/model` gives, if both exist."""
    if OmegaConf.is_missing(model, "name"):
        return None
    file = CONF / "model" / f"{model.name}.yaml"
    found: Any = OmegaConf.load(file) if file.exists() else {}
    return found.get("hub")


def config_folder(model: DictConfig) -> Path | None:
    """The folder with config.json; None if the architecture is that of `conf/model`, or the folder doesn't exist.

    Raises:
        UserError: a generic model has no folder, or the repository isn't available.
    """
    if model.path:
        folder = Path(model.path).expanduser()
        if folder.is_dir():
            return folder
        if not named(model):
            raise UserError(f"model.path={model.path}: no such folder")
        return None  # loading the weights reports it
    if named(model):
        if model.hub in (None, own_hub(model)) or (own_hub(model) is None and not model.package):
            return None
    elif not model.hub:
        types = types_of(model)
        raise UserError(
            f"model={GENERIC[types[0]]} is any {' or '.join(types)}: give model.path=FOLDER or model.hub=ID"
        )
    from adalora.sources.hub import fetch

    return fetch(model.hub, model.revision, {"config.json": [["config.json"]]}, "model", "model.path=FOLDER")


def source_name(source: str) -> str:
    """A name for paths and tables: that of a folder, a repository, or the repository that a cached snapshot is from."""
    cached = re.search(r"models--([^/]+)/snapshots/[^/]+/?$", source)
    last = cached[1].rpartition("--")[2] if cached else Path(source).expanduser().resolve().name
    name = re.sub(r"[^\w.%+-]", "-", last).lstrip(".%+-") or "model"
    return f"other-{name}" if (CONF / "model" / f"{name}.yaml").exists() else name
