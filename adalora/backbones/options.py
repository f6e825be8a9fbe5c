"""Options of a backbone."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING

from adalora.options import check_options, folder_name, names_in, one_of, option, require, share
from adalora.sources.options import Package

DECODERS = ("llama", "olmo2", "qwen2", "qwen3")
"""Architectures of decoder language models, by transformers' names."""
GENERIC = {"deberta-v2": "deberta", "bart": "bart"} | dict.fromkeys(DECODERS, "decoder")
"""The file in `conf/model` for any model of a type."""


@dataclass
class Model:
    """A backbone: its weights, and the modules that are adapted. `Config.backbone` adds the task's head."""

    name: str = option(MISSING, folder_name)
    title: str = MISSING  # name in results
    model_type: str = option(MISSING, one_of(*GENERIC))  # transformers' name for the architecture
    comparable: bool = MISSING  # whether its results can be compared with the paper's
    hub: str | None = MISSING
    revision: str = MISSING
    path: str | None = MISSING
    package: Package | None = MISSING
    config: dict[str, Any] = MISSING  # the architecture: keys of config.json
    targets: dict[str, str] = MISSING  # short name -> module path with {layer}
    architecture: str = ""  # transformers' class for the task, and
    head: list[str] = field(default_factory=list)  # its head modules, which are trained and never counted
    train_modules: list[str] = field(default_factory=list)  # other modules that are trained fully, counted apart
    pos_query_base_only: bool = MISSING
    attention: str = MISSING
    classifier_dropout: float = option(MISSING, share)
    dtype: str = option("fp32", one_of("fp32", "bf16"))  # of the frozen weights

    def __post_init__(self) -> None:
        check_options(self, "model")
        for name, path in self.targets.items():
            require(
                names_in(path) == {"layer"}, f"model.targets.{name}={path}: {{layer}} stands for the layer's number"
            )
        require(
            bool(self.hub or self.package or self.path),
            "model.hub, model.package and model.path are all null: one of them must say where the weights are",
        )
        kinds = ("exact", "eager") if self.model_type == "deberta-v2" else ("eager", "sdpa")
        require(
            self.attention in kinds,
            f"model.attention={self.attention}: allowed for {self.model_type} are {', '.join(kinds)}",
        )
        require(
            self.dtype == "fp32" or self.model_type in DECODERS,
            f"model.dtype={self.dtype} is for decoders: leave it out for {self.model_type}, precision=bf16 computes in "
            "bf16",
        )

    @property
    def grafted(self) -> bool:
        """Whether the weights are a package's BERT, put into the paper's architecture (graft.py)."""
        return self.package is not None and self.package.gguf is None and not self.path

    def with_modules(self, modules: list[str]) -> "Model":
        """This backbone restricted to these targets. Raises `UserError` for an unknown one."""
        for name in modules:
            require(
                name in self.targets,
                f"method.modules: {name} isn't a module of {self.title}, allowed are {', '.join(self.targets)}",
            )
        targets = {name: path for name, path in self.targets.items() if name in modules}
        return replace(self, targets=targets)


def differences(config: Mapping[Any, Any], values: Mapping[str, Any]) -> list[str]:
    """The keys of the architecture `config` whose integer or boolean value differs in `values`."""
    return [key for key, number in config.items() if isinstance(number, int) and values.get(key) != number]
