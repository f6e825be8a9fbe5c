"""Options of full fine-tuning: none."""

from dataclasses import dataclass

from adalora.methods.options import MethodConfig


@dataclass
class FullConfig(MethodConfig):
    """Every parameter is trained; the size is fixed."""

    name: str = "full"

    has_budget = False

    def trains(self, parameter: str) -> bool:
        return True

    def describe(self) -> str:
        return "all parameters"


OPTIONS = FullConfig
