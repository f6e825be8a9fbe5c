"""`method.init_from`: the PEFT adapter that training starts from, without its tensors. Imports no torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, PositiveInt

from adalora.options import require
from adalora.reading import read_dict

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
REMEDY = "method.init_from needs a folder that PEFT saved"
UNLIKE_OURS = ("use_dora", "lora_bias", "fan_in_fan_out", "use_qalora", "layer_replication", "target_parameters")


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
    def rank(self) -> int:
        """The highest rank of any map; for AdaLoRA the initial rank."""
        if self.options["peft_type"] == "ADALORA":
            return self.options["init_r"]
        return max([self.options["r"], *(self.options.get("rank_pattern") or {}).values()])

    def scale(self, path: str, rank: int) -> float:
        """The factor with which PEFT scales the increment of map `path`, whose tensors have rank `rank`."""
        if self.options["peft_type"] == "ADALORA":  # uses the initial rank, even after pruning
            return self.options["lora_alpha"] / (self.options["init_r"] + 1e-5)
        patterns = self.options.get("alpha_pattern") or {}
        found = [alpha for name, alpha in patterns.items() if path == name or path.endswith(f".{name}")]
        alpha = found[0] if found else self.options["lora_alpha"]
        return alpha / (math.sqrt(rank) if self.options.get("use_rslora") else rank)


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
    return SavedAdapter(folder, options)
