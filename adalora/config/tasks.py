"""The options of a task, by its kind."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from adalora.config.sources import Package, Source
from adalora.options import at_least, check_options, folder_name, not_negative, one_of, option, positive, require


@dataclass
class Task:
    """A task: data, columns, metric. A dozen lines of YAML and a citation."""

    kind: ClassVar[str]  # tasks/<kind>/
    known_metrics: ClassVar[tuple[str, ...]]
    numbers: ClassVar[tuple[str, ...]] = ("name", "version", "metrics", "headline", "max_length")  # decide scores
    tokens: ClassVar[tuple[str, ...]] = ("max_length",)  # decide what the model sees of the rows

    name: str = option(MISSING, folder_name)
    title: str = MISSING  # as the paper's tables name it
    version: int = MISSING  # raised when a change alters scores
    source: Source | None = MISSING
    package: Package | None = MISSING
    train_split: str = MISSING
    eval_splits: list[str] = MISSING
    rows: dict[str, int] = MISSING  # official row counts by split
    metrics: list[str] = MISSING
    headline: str = MISSING
    direction: str = option(MISSING, one_of("max", "min"))
    max_length: int = option(MISSING, at_least(3))  # tokens of an input
    mean_length: float | None = option(
        None, positive
    )  # tokens of an input, for estimates of cost only; None: max_length
    citation: str = MISSING
    data_dir: str | None = MISSING
    train_file: str | None = MISSING
    eval_file: str | None = MISSING
    eval_split: str | None = MISSING
    eval_rows: int | None = option(MISSING, at_least(1))

    def __post_init__(self) -> None:
        check_options(self, "task")
        for metric in self.metrics:
            allowed = ", ".join(self.known_metrics)
            require(metric in self.known_metrics, f"task.metrics: {metric} is unknown, allowed are {allowed}")
        require(
            self.headline in self.metrics,
            f"task.headline={self.headline}: allowed are task.metrics, {', '.join(self.metrics)}",
        )


OF_CLASSES = ("accuracy", "f1", "macro_f1", "matthews")
OF_NUMBERS = ("pearson", "spearman", "pearson_spearman")


@dataclass
class ClassificationTask(Task):
    """One or two texts to a class, or to a number where `labels` is None."""

    kind: ClassVar[str] = "classification"
    known_metrics: ClassVar[tuple[str, ...]] = (*OF_CLASSES, *OF_NUMBERS)
    numbers: ClassVar[tuple[str, ...]] = (*Task.numbers, "labels")

    text: list[str] = MISSING  # one or two text columns, in order
    label: str = MISSING
    labels: list[str] | None = MISSING  # label names in order; null for regression
    label_range: list[float] | None = MISSING  # regression only

    def __post_init__(self) -> None:
        super().__post_init__()
        what, fitting = ("classification", OF_CLASSES) if self.labels else ("regression", OF_NUMBERS)
        for metric in self.metrics:
            require(
                metric in fitting,
                f"task.labels={self.labels or 'null'} makes {self.name} a {what}, which has no {metric}: give other "
                f"labels, or task.metrics and task.headline out of {', '.join(fitting)}",
            )


@dataclass
class SquadTask(Task):
    """A question and a context to a span of the context, or to none."""

    kind: ClassVar[str] = "squad"
    known_metrics: ClassVar[tuple[str, ...]] = ("exact_match", "f1")
    numbers: ClassVar[tuple[str, ...]] = (
        *Task.numbers, "unanswerable", "stride", "n_best", "max_answer_length", "null_threshold",
    )  # fmt: skip
    tokens: ClassVar[tuple[str, ...]] = (*Task.tokens, "stride")

    unanswerable: bool = MISSING  # whether questions without an answer occur (v2)
    stride: int = MISSING  # tokens that neighbouring windows share
    n_best: int = option(MISSING, at_least(1))
    max_answer_length: int = option(MISSING, at_least(1))
    null_threshold: float = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.stride < self.max_length - 3,
            f"task.stride={self.stride}: must lie in [0, task.max_length - 3), that is below {self.max_length - 3}",
        )


@dataclass
class SummarizationTask(Task):
    """A document to its summary."""

    kind: ClassVar[str] = "summarization"
    known_metrics: ClassVar[tuple[str, ...]] = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    numbers: ClassVar[tuple[str, ...]] = (
        *Task.numbers, "max_target_length", "num_beams", "min_length", "length_penalty", "early_stopping",
        "no_repeat_ngram",
    )  # fmt: skip
    tokens: ClassVar[tuple[str, ...]] = (*Task.tokens, "max_target_length")

    document: str = MISSING  # column
    summary: str = MISSING  # column
    max_target_length: int = option(MISSING, at_least(3))  # tokens, trained on and generated
    mean_target_length: float | None = option(
        None, positive
    )  # tokens, for estimates of cost only; None: max_target_length
    num_beams: int = option(MISSING, at_least(1))
    min_length: int = option(MISSING, not_negative)  # tokens
    length_penalty: float = MISSING
    early_stopping: bool = MISSING
    no_repeat_ngram: int = option(MISSING, not_negative)  # 0: any

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.min_length < self.max_target_length,
            f"task.min_length={self.min_length}: must be below task.max_target_length={self.max_target_length}",
        )


TASK_CONFIGS: dict[str, type[Task]] = {
    config.kind: config for config in (ClassificationTask, SquadTask, SummarizationTask)
}
