"""`method.init_from`: a PEFT adapter that training starts from. Read here as far as it needs no torch."""

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
    """What adapter_config.json holds at least."""

    peft_type: str


class LoRAAdapter(AnyAdapter):
    """That of a LoRA adapter."""

    r: PositiveInt
    lora_alpha: Annotated[FiniteFloat, Field(gt=0)]
    rank_pattern: dict[str, PositiveInt] | None = None
    alpha_pattern: dict[str, Annotated[FiniteFloat, Field(gt=0)]] | None = None
    use_rslora: bool | None = None


class AdaLoRAAdapter(AnyAdapter):
    """That of an AdaLoRA adapter."""

    init_r: PositiveInt
    lora_alpha: Annotated[FiniteFloat, Field(gt=0)]


@dataclass(frozen=True)
class SavedAdapter:
    """A PEFT adapter's folder and its adapter_config.json."""

    folder: Path
    options: dict[str, Any]

    @property
    def rank(self) -> int:
        """The highest rank of a map, which is AdaLoRA's initial one."""
        if self.options["peft_type"] == "ADALORA":
            return self.options["init_r"]
        return max([self.options["r"], *(self.options.get("rank_pattern") or {}).values()])

    def scale(self, path: str, rank: int) -> float:
        """What PEFT multiplies the increment of the map `path` with; `rank` as its tensors have it."""
        if self.options["peft_type"] == "ADALORA":  # of the initial rank, also after pruning
            return self.options["lora_alpha"] / (self.options["init_r"] + 1e-5)
        patterns = self.options.get("alpha_pattern") or {}
        found = [alpha for name, alpha in patterns.items() if path == name or path.endswith(f".{name}")]
        alpha = found[0] if found else self.options["lora_alpha"]
        return alpha / (math.sqrt(rank) if self.options.get("use_rslora") else rank)


def read_adapter(where: str, method: str, kind: str) -> SavedAdapter:
    """The adapter in the folder `where`, whose type must be `kind`.

    Raises:
        UserError: no such folder or files, not an adapter of this type, or with parts that ours lacks.
    """
    folder = Path(where).expanduser()
    require(folder.is_dir(), f"method.init_from={where}: no such folder")
    for name in (CONFIG, TENSORS):
        require(
            (folder / name).is_file(), f"method.init_from={where} has no {name}: a folder that PEFT saved is needed"
        )
    options = read_dict(folder / CONFIG, AnyAdapter, REMEDY)
    found = options["peft_type"]
    require(found == kind, f"method.init_from={where} is of PEFT's type {found}, method={method} takes {kind} only")
    needed = AdaLoRAAdapter if kind == "ADALORA" else LoRAAdapter
    options = read_dict(folder / CONFIG, needed, REMEDY)
    for name in UNLIKE_OURS:
        require(not options.get(name), f"method.init_from={where} has {name}, which method={method} can't express")
    return SavedAdapter(folder, options)
