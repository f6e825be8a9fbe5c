"""BitFit (Ben Zaken et al., ACL 2022, arXiv 2106.10199): only the biases of the backbone are trained.

Every parameter named `bias` is trained, including those of LayerNorms; LayerNorm weights stay frozen. The size is
fixed: 102,912 parameters for DeBERTaV3-base, 19,968 of them in LayerNorms, and 333,824 for BART-large, whose
`final_logits_bias` is a buffer of zeros and not a parameter. Nothing is added to the model, so there is nothing to
merge. docs/deviations.md: D-bitfit.
"""

from collections.abc import Mapping

from torch import nn

from adalora.methods.bitfit.options import BitFitConfig
from adalora.methods.protocol import Method


class BitFit(Method[BitFitConfig]):
    """Trains the biases."""

    def attach(self, model: nn.Module, targets: Mapping[str, nn.Linear], total_steps: int) -> None:
        for name, parameter in model.named_parameters():
            if self.config.trains(name):
                parameter.requires_grad_(True)


METHOD = BitFit
