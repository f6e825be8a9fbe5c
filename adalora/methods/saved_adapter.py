"""`method.init_from`: the PEFT adapter that training starts from, without its tensors."""

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, PositiveInt

from adalora.errors import UserError
from adalora.files.reading import read_dict
from adalora.options import require

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
REMEDY = "method.init_from needs a folder that PEFT saved"
UNLIKE_OURS = (  # features of PEFT that change what the tensors compute
    "use_dora", "lora_bias", "fan_in_fan_out", "use_qalora", "layer_replication", "target_parameters", "use_bdlora",
    "alora_invocation_tokens", "trainable_token_indices", "arrow_config", "velora_config", "monteclora_config",
    "kasa_config",
)  # fmt: skip
INITIAL_VALUES = (None, True, False, "gaussian", "eva", "orthogonal")
"""PEFT's `init_lora_weights` that leave the base weights as they are."""


class AnyAdapter(BaseModel):
    """Required keys of adapter_config.json."""

    peft_type: str


class LoRAAdapter(AnyAdapter):
    """Required keys for LoRA."""

    r: PositiveInt
    lora_alpha: Annotated[FiniteFloat, Field(gt=0)]
    rank_pattern: dict[str, PositiveInt] | None = None
    alpha_pattern: dict[str, Annotated[FiniteFloat, Field(gt=0)]] | None = None
    use_rslora: bool | None = None


class AdaLoRAAdapter(AnyAdapter):
    """Required keys for AdaLoRA."""

    init_r: PositiveInt
    lora_alpha: Annotated[FiniteFloat, Field(gt=0)]


@dataclass(frozen=True)
class SavedAdapter:
    """The folder and adapter_config.json of a PEFT adapter."""

    folder: Path
    options: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        """Its two files."""
        return [self.folder / name for name in (CONFIG, TENSORS)]

    @property
    def digest(self) -> str:
        """SHA-256 over the files."""
        return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in self.files)).hexdigest()

    def rank(self, path: str) -> int:
        """PEFT's rank of module `path`; for AdaLoRA the initial rank."""
        if self.options["peft_type"] == "ADALORA":
            return self.options["init_r"]
        return self._matched("rank_pattern", path, self.options["r"])

    def scale(self, path: str) -> float:
        """The factor with which PEFT scales the increment of module `path`."""
        if self.options["peft_type"] == "ADALORA":  # uses the initial rank, even after pruning
            return self.options["lora_alpha"] / (self.options["init_r"] + 1e-5)
        alpha, rank = self._matched("alpha_pattern", path, self.options["lora_alpha"]), self.rank(path)
        return alpha / (math.sqrt(rank) if self.options.get("use_rslora") else rank)

    def _matched(self, option: str, path: str, default: Any) -> Any:
        """The value of a pattern option at `path`. The keys are regular expressions for the end of the path."""
        from peft.utils.other import get_pattern_key  # imports torch

        patterns = self.options.get(option) or {}
        try:
            return patterns.get(get_pattern_key(list(patterns), path), default)
        except re.error as error:
            raise UserError(f"{self.folder / CONFIG}: {option} has a pattern that can't be read ({error})") from error


def read_adapter(where: str, method: str, kind: str) -> SavedAdapter:
    """Read the adapter in folder `where`, which must be of type `kind`.

    Raises:
        UserError: folder or files are missing, the type is another, or it uses features that ours lacks.
    """
    folder = Path(where).expanduser()
    require(folder.is_dir(), f"method.init_from={where}: no such folder")
    for name in (CONFIG, TENSORS):
        require((folder / name).is_file(), f"method.init_from={where} has no {name}: give a folder that PEFT saved")
    options = read_dict(folder / CONFIG, AnyAdapter, REMEDY)
    found = options["peft_type"]
    require(found == kind, f"method.init_from={where} has PEFT type {found}, but method={method} needs {kind}")
    needed = AdaLoRAAdapter if kind == "ADALORA" else LoRAAdapter
    options = read_dict(folder / CONFIG, needed, REMEDY)
    for name in UNLIKE_OURS:
        require(not options.get(name), f"method.init_from={where} has {name}, which method={method} can't express")
    start = options.get("init_lora_weights")
    require(
        start in INITIAL_VALUES,
        f"method.init_from={where} has init_lora_weights={start}, which changes the base weights: convert it with "
        "PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
    )
    return SavedAdapter(folder, options)
