"""Methods of one size: nothing to choose."""

from dataclasses import dataclass

from adalora.config.methods.base import MethodConfig


@dataclass
class FullConfig(MethodConfig):
    """Full fine-tuning: no options, and no choice of budget."""

    name: str = "full"

    @property
    def has_budget(self) -> bool:
        return False


@dataclass
class BitFitConfig(MethodConfig):
    """Biases only: no options, and no choice of budget."""

    name: str = "bitfit"

    @property
    def has_budget(self) -> bool:
        return False
