"""Options of LoRA."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from adalora.methods.options import RankConfig
from adalora.methods.saved_adapter import SavedAdapter, read_adapter
from adalora.options import not_negative, one_of, option, positive, share


@dataclass
class LoRAConfig(RankConfig):
    """W x + (alpha / rank) B A x."""

    rank_option: ClassVar[str | None] = "rank"

    name: str = "lora"
    alpha: float = option(
        16.0, positive, help="scale is alpha / rank; released AdaLoRA scripts: 16 or 32 by task at every rank"
    )
    dropout: float = option(0.0, share, help="dropout on the input of A; 0 in the official runs")
    init: str = option(
        "normal",
        one_of("normal", "kaiming"),
        help="initial A: normal (released DeBERTa model on GLUE) or kaiming (loralib; recipes of SQuAD and BART); "
        "B starts at 0",
    )
    init_std: float = option(0.02, positive, help="standard deviation of normal")
    orthogonality: float = option(
        0.0, not_negative, help="gamma, weight of the mean |cosine| within A and B (LoRA-regu, Table 5); 0: none"
    )
    init_from: str | None = option(
        None, help="a folder with a PEFT LoRA adapter to start from, head included; null: new initial values"
    )

    def at_rank(self, rank: float) -> Self | None:
        return replace(self, rank=int(rank)) if float(rank).is_integer() else None

    def initial_adapter(self) -> SavedAdapter | None:
        return None if self.init_from is None else read_adapter(self.init_from, self.name, "LORA")

    def from_rank(self, rank: int) -> Self:
        return replace(self, rank=rank) if self.rank is None else self


OPTIONS = LoRAConfig
