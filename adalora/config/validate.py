"""Convert the composed tree to validated dataclasses, before anything is loaded."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adalora.config.backbone import settle
from adalora.config.mistakes import explain_unresolved, no_option
from adalora.config.schema import Config
from adalora.config.usage import names
from adalora.errors import UserError
from adalora.options import key_of


def validate(tree: DictConfig, overrides: Sequence[str]) -> Config:
    """Convert the tree, composed from `overrides`, to dataclasses; each `__post_init__` checks its values.

    Raises:
        UserError: a value is of the wrong type, missing or out of range, or the model's config.json can't be read.
    """
    try:
        tree = settle(tree, overrides)
        refuse_gaps(tree)
        refuse_overrides(tree, overrides)
        config = cast(Config, OmegaConf.to_object(tree))
    except OmegaConfBaseException as error:
        raise UserError(explain_unresolved(error)) from error
    refuse_unknown(config, "")
    if any(tree.model.get(name) for name in ("head", "architecture", "train_modules")):
        raise UserError("model.head, model.architecture and model.train_modules follow from the task: leave them out")
    return config


def refuse_overrides(tree: DictConfig, overrides: Sequence[str]) -> None:
    """Reject overrides that have no value, no effect, or not the effect they suggest. Raises `UserError`."""
    sized = str(tree.budget.name)
    for text in overrides:
        key, _, value = text.lstrip("+~").partition("=")
        if key == "model.classifier_dropout" and "label" not in tree.task:
            raise UserError(f"{text}: task={tree.task.name} has no classifier, leave it out")
        if key in ("budget.params", "budget.rank") and value != "null" and sized in set(names("budget")) - {"custom"}:
            raise UserError(f"{text}: budget={sized} has a size of its own, give budget=custom {key}={value}")
        if not value and "=" in text:
            raise UserError(f"{text} has no value: give one, or {key}=null")


def refuse_architecture(overrides: Sequence[str]) -> None:
    """Reject overrides of a model's architecture, which only models without weights can have. Raises `UserError`."""
    for text in overrides:
        if key_of(text).startswith("model.config"):
            raise UserError(f"{text}: the architecture is that of the weights, leave it out")


def refuse_gaps(tree: DictConfig) -> None:
    """Reject options without a value and numbers that aren't finite. Raises `UserError`."""
    gone = [field.name for field in fields(Config) if field.name not in tree]
    for key in gone:
        raise UserError(f"{key} has no value: give one, or leave ~{key} out")
    for key in sorted(OmegaConf.missing_keys(tree)):
        raise UserError(f"{key} has no value: give one, as {key}=VALUE")
    for key, value in leaves(OmegaConf.to_container(tree, resolve=True), ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value}: must be a finite number")


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a tree with their keys; lists are leaves."""
    if not isinstance(node, dict):
        yield path, node
        return
    for key, part in node.items():
        yield from leaves(part, f"{path}.{key}" if path else str(key))


def refuse_unknown(node: object, path: str) -> None:
    """Reject unknown options added with `+key=value`. Raises `UserError`."""
    if not is_dataclass(node):
        return
    known = {field.name for field in fields(node)}
    for name, value in vars(node).items():
        if name not in known:
            raise UserError(no_option(f"{path}{name}", known))
        refuse_unknown(value, f"{path}{name}.")
