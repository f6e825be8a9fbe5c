"""Options of extractive question answering."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from adalora.options import at_least, option, require
from tasks.options import Served, Task


@dataclass
class SquadTask(Task):
    """Extractive question answering: find a span of the context, or no answer."""

    type: ClassVar[str] = "squad"
    models: ClassVar[dict[str, Served]] = {"deberta-v2": Served("DebertaV2ForQuestionAnswering", ("qa_outputs",))}
    recounted: ClassVar[str] = "questions, which a run cuts into windows of task.max_length tokens"
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    peft_type: ClassVar[str] = "QUESTION_ANS"
    known_metrics: ClassVar[tuple[str, ...]] = ("exact_match", "f1")
    scored: ClassVar[tuple[str, ...]] = (
        *Task.scored, "unanswerable", "stride", "n_best", "max_answer_length", "null_threshold",
    )  # fmt: skip
    tokenised: ClassVar[tuple[str, ...]] = (*Task.tokenised, "stride")

    unanswerable: bool = MISSING  # whether questions may be unanswerable (v2)
    stride: int = MISSING  # overlap of neighbouring windows, in tokens
    n_best: int = option(MISSING, at_least(1))
    max_answer_length: int = option(MISSING, at_least(1))
    null_threshold: float = MISSING

    @property
    def outputs(self) -> int:
        """Start and end of the answer."""
        return 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.unanswerable or self.null_threshold == 0,
            f"task.null_threshold={self.null_threshold:g}: every question of {self.name} has an answer, leave it out",
        )
        require(
            0 <= self.stride < self.max_length - 3,
            f"task.stride={self.stride}: must lie in [0, task.max_length - 3), that is below {self.max_length - 3}",
        )


OPTIONS = SquadTask
