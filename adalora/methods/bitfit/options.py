"""Options of BitFit: none."""

from dataclasses import dataclass

from adalora.methods.options import MethodConfig


@dataclass
class BitFitConfig(MethodConfig):
    """The biases are trained; the size is fixed."""

    name: str = "bitfit"

    has_budget = False

    def trains(self, parameter: str) -> bool:
        return parameter.rpartition(".")[2] == "bias"

    def describe(self) -> str:
        return "all biases"


OPTIONS = BitFitConfig
