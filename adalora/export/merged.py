"""Export a plain transformers model with merged weights."""

from pathlib import Path
from typing import Any

from torch import nn

from adalora.methods.protocol import Method


def save(folder: Path, model: nn.Module, method: Method) -> None:
    """Merge the method into `model` (in place) and save it. Raises `UserError` if that isn't possible."""
    method.merge(model)
    plain: Any = model
    plain.save_pretrained(folder)
