"""Options of a task of questions and answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import ClassVar

from omegaconf import MISSING

from adalora.errors import UserError
from adalora.options import at_least, one_of, option, require
from tasks.causal.options import DecoderTask, OtherData

OF_CHOICES = ("accuracy", "accuracy_norm")
OF_TEXT = ("bits_per_byte", "exact_match", "exact_number")
GENERATED = ("exact_match", "exact_number")


@dataclass
class OtherAnswers(OtherData):
    """Prompts and answers of another data set."""

    prompt: str = MISSING
    choices: list[str] = field(default_factory=list)
    answer: str = MISSING


@dataclass
class AnswersTask(DecoderTask):
    """Trains on prompt and answer; scores the likelihood of every choice, or an answer that it generates."""

    type: ClassVar[str] = "answers"
    known_metrics: ClassVar[tuple[str, ...]] = (*OF_CHOICES, *OF_TEXT)
    tokenised: ClassVar[tuple[str, ...]] = (*DecoderTask.tokenised, "template", "loss_on")
    scored: ClassVar[tuple[str, ...]] = (*DecoderTask.scored, "prompt", "template", "loss_on", "max_new_tokens")

    prompt: str = MISSING  # columns in braces
    choices: list[str] = MISSING  # a column of lists, or one column per choice; []: answers are free
    answer: str = MISSING  # column
    template: str = option(MISSING, one_of("plain", "chat"))
    loss_on: str = option(MISSING, one_of("answer", "all"))
    max_new_tokens: int = option(MISSING, at_least(1))  # of a generated answer
    others: dict[str, OtherAnswers] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The columns of the prompt, in order."""
        return list(dict.fromkeys(name for _, name, _, _ in Formatter().parse(self.prompt) if name is not None))

    def prompt_of(self, row: Mapping[str, str]) -> str:
        """The prompt with a row's columns. `str.format` would take `meta.title` for a part of `meta`."""
        return "".join(
            text + ("" if name is None else row[name]) for text, name, _, _ in Formatter().parse(self.prompt)
        )

    @property
    def opening(self) -> str:
        """The text that every plain prompt begins with, such as `Question:`."""
        return "" if self.template == "chat" else self.prompt.partition("{")[0].strip()

    @property
    def generates(self) -> tuple[int, int] | None:
        return (1, self.max_new_tokens) if set(self.metrics) & set(GENERATED) else None

    def __post_init__(self) -> None:
        super().__post_init__()
        example = 'as in "Question: {question}\\nAnswer:"'
        try:
            plain = all(not form and not way for _, _, form, way in Formatter().parse(self.prompt))
        except ValueError as error:
            raise UserError(f"task.prompt={self.prompt!r}: {error}; columns stand in braces, {example}") from error
        good = plain and bool(self.columns) and all(self.columns)
        require(good, f"task.prompt={self.prompt!r}: name columns in braces, {example}")
        kind, fitting = ("choices", OF_CHOICES) if self.choices else ("free answers", OF_TEXT)
        for metric in self.metrics:
            require(
                metric in fitting,
                f"task.metrics: {metric} isn't for {kind} (task.choices={self.choices}), allowed are "
                f"{', '.join(fitting)}",
            )


OPTIONS = AnswersTask
