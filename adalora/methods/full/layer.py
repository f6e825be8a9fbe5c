"""Full fine-tuning: every parameter of the backbone is trained.

There is no choice of budget. The "adapter" is the backbone, so DeBERTaV3-base counts 183,831,552
and with its head 184,423,682 (the paper's 184M); BART-large 406,291,456, the tied embeddings once.
"""

from collections.abc import Mapping

from torch import nn

from adalora.methods.full.options import FullConfig
from adalora.methods.protocol import Method


class Full(Method):
    """Trains everything."""

    increments = False

    def __init__(self, config: FullConfig) -> None:
        self.config = config

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        model.requires_grad_(True)


METHOD = Full
