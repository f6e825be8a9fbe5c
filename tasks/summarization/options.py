"""Options of summarisation."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from adalora.options import at_least, not_negative, option, positive, require
from tasks.options import Served, Task


@dataclass
class SummarizationTask(Task):
    """Summarisation."""

    type: ClassVar[str] = "summarization"
    models: ClassVar[dict[str, Served]] = {
        "bart": Served("BartForConditionalGeneration", ()),  # the output layer is tied to the frozen embeddings
    }
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    peft_type: ClassVar[str] = "SEQ_2_SEQ_LM"
    known_metrics: ClassVar[tuple[str, ...]] = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    scored: ClassVar[tuple[str, ...]] = (
        *Task.scored, "max_target_length", "num_beams", "min_length", "length_penalty", "early_stopping",
        "no_repeat_ngram",
    )  # fmt: skip
    tokenised: ClassVar[tuple[str, ...]] = (*Task.tokenised, "max_target_length")

    document: str = MISSING  # column
    summary: str = MISSING  # column
    max_target_length: int = option(MISSING, at_least(3))  # tokens, in training and generation
    mean_target_length: float | None = option(None, positive)  # only for cost estimates; None: max_target_length
    num_beams: int = option(MISSING, at_least(1))
    min_length: int = option(MISSING, not_negative)  # tokens
    length_penalty: float = MISSING
    early_stopping: bool = MISSING
    no_repeat_ngram: int = option(MISSING, not_negative)  # 0: any

    @property
    def mean_tokens(self) -> tuple[float, float]:
        mean, _ = super().mean_tokens
        return mean, min(self.mean_target_length or mean, self.max_target_length)

    @property
    def generates(self) -> tuple[int, int]:
        return self.num_beams, self.max_target_length

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.min_length < self.max_target_length,
            f"task.min_length={self.min_length}: must be below task.max_target_length={self.max_target_length}",
        )


OPTIONS = SummarizationTask
