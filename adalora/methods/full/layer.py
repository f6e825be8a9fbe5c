"""Full fine-tuning: every parameter of the backbone is trained.

The size is fixed. The "adapter" is the backbone: 183,831,552 parameters for DeBERTaV3-base, 184,423,682 with its head
(the paper's 184M), and 406,291,456 for BART-large, with the tied embeddings counted once.
"""

from collections.abc import Mapping

from torch import nn

from adalora.methods.full.options import FullConfig
from adalora.methods.protocol import Method


class Full(Method[FullConfig]):
    """Trains everything."""

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        model.requires_grad_(True)


METHOD = Full
