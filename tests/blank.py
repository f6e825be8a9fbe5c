"""Backbones on the meta device: transformers' models without weights."""

import torch

from adalora.backbones.load import architecture, model_class


def blank(model, outputs, folder=None):
    """The backbone with its head, as transformers builds it."""
    with torch.device("meta"):
        return model_class(model)(architecture(model, outputs, folder))
