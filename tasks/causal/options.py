"""Options of causal language modelling."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from omegaconf import MISSING

from adalora.options import at_least, option, require
from adalora.sources.options import Package, Source
from tasks.options import Served, Task

DECODERS = {"llama": "Llama", "olmo2": "Olmo2", "qwen2": "Qwen2", "qwen3": "Qwen3"}
LOGITS = 2**27  # logits at once in evaluation: 0.5 GiB in fp32 (ours)


@dataclass
class OtherData:
    """Another data set's split that is scored, too."""

    name: str = MISSING  # of the data set: its folder below data_root
    source: Source | None = None
    package: Package | None = None
    data_dir: str | None = None
    split: str = MISSING
    rows: int | None = option(None, at_least(1))  # the first so many; None: all


@dataclass
class DecoderTask(Task):
    """A task on a decoder, which keeps its own frozen output layer."""

    models: ClassVar[dict[str, Served]] = {
        name: Served(f"{prefix}ForCausalLM", ()) for name, prefix in DECODERS.items()
    }
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    peft_type: ClassVar[str] = "CAUSAL_LM"
    scored: ClassVar[tuple[str, ...]] = (*Task.scored, "final_splits")

    others: dict[str, Any] = field(default_factory=dict)  # further splits to score, by name

    @property
    def scored_splits(self) -> list[str]:
        return [*self.eval_splits, *self.others]

    def metric_name(self, metric: str, split: str) -> str:
        return f"{metric}_{split}" if split in self.others else super().metric_name(metric, split)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.others:
            own = name in (self.train_split, *self.eval_splits, self.eval_split)
            require(not own, f"task.others.{name}: {self.name} has a split of that name, give another")

    def on(self, other: OtherData) -> Self:
        """This task with another data set's rows."""
        columns = {each.name: getattr(other, each.name) for each in fields(other) if each.name not in ("split", "rows")}
        files: Any = dict.fromkeys(("train_file", "eval_file", "eval_split", "held_out"))
        return replace(self, **columns, **files, eval_splits=[other.split], final_splits=[], others={}, rows={})


@dataclass
class OtherText(OtherData):
    """Text of another data set."""

    text: str = MISSING  # column
    unique: list[str] = field(default_factory=list)


@dataclass
class CausalTask(DecoderTask):
    """Text: trains on packed blocks of `max_length` tokens, and scores every article alone."""

    type: ClassVar[str] = "causal"
    recounted: ClassVar[str] = "articles, which a run packs into blocks of task.max_length tokens"
    known_metrics: ClassVar[tuple[str, ...]] = ("bits_per_byte",)
    scored: ClassVar[tuple[str, ...]] = (*DecoderTask.scored, "eval_length", "eval_stride", "unique")
    tokenised: ClassVar[tuple[str, ...]] = (*Task.tokenised, "eval_length", "eval_stride")

    text: str = MISSING  # column
    unique: list[str] = field(default_factory=list)  # columns that say whether two articles are the same
    others: dict[str, OtherText] = field(default_factory=dict)  # texts from other data sets to score, by name
    eval_length: int = option(MISSING, at_least(2))  # tokens of a window in evaluation
    eval_stride: int = option(MISSING, at_least(1))  # tokens from one window to the next

    @property
    def plain_text(self) -> str:
        return self.text

    @property
    def eval_tokens(self) -> int:
        return self.eval_length

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.eval_stride < self.eval_length,
            f"task.eval_stride={self.eval_stride}: must be below task.eval_length={self.eval_length}, or tokens have "
            "no context",
        )


OPTIONS = CausalTask
