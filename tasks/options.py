"""Options shared by all tasks."""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from omegaconf import MISSING

from adalora.options import at_least, check_options, folder_name, names_in, option, positive, require
from adalora.sources.options import Package, Source

LOWER = ("bits_per_byte", "loss")  # metrics of which a lower value is better
LAYOUT = 6  # incremented when `features` of a type, or tokenizer loading, changes


class Served(NamedTuple):
    """A backbone's model for a type of task: transformers' class, and the modules that make up the head.

    The head is trained, saved and never counted.
    """

    architecture: str
    head: tuple[str, ...]


def encoding_name(value: str) -> str | None:
    """A name that Python knows an encoding by."""
    try:
        "".encode(value)  # unlike codecs.lookup, only finds encodings of text
    except (LookupError, ValueError):  # "undefined" is one that raises UnicodeError
        return "is no encoding of text; utf-8, cp1252 and utf-16 are, for example"
    return None


@dataclass
class Task:
    """A task: data, columns and metric, in a dozen lines of YAML with a citation."""

    type: ClassVar[str]  # tasks/<type>/
    models: ClassVar[dict[str, Served]]  # by architecture of the backbone
    recounted: ClassVar[str] = ""  # what a dry run counts, and what a run makes of it; empty: the same rows
    auto_class: ClassVar[str]  # transformers' AutoModelFor... class
    peft_type: ClassVar[str]  # PEFT's task type
    known_metrics: ClassVar[tuple[str, ...]]
    # options that affect scores, and those that affect the model's inputs
    scored: ClassVar[tuple[str, ...]] = ("name", "version", "metrics", "headline", "max_length", "train_modules")
    tokenised: ClassVar[tuple[str, ...]] = ("max_length",)

    name: str = option(MISSING, folder_name)
    title: str = MISSING  # name in the paper's tables
    version: int = MISSING  # incremented when a change alters scores
    source: Source | None = MISSING
    package: Package | None = MISSING
    train_split: str = MISSING
    eval_splits: list[str] = MISSING
    rows: dict[str, int] = MISSING  # official row counts by split
    metrics: list[str] = MISSING
    headline: str = MISSING
    # tokens of an input; the mean is only for cost estimates, None: max_length
    max_length: int = option(MISSING, at_least(3))
    mean_length: float | None = option(None, positive)
    citation: str = MISSING
    final_splits: list[str] = field(default_factory=list)  # evaluation splits that are scored after the last step only
    train_modules: list[str] = field(default_factory=list)  # paths of modules that are trained fully, besides the head
    data_dir: str | None = MISSING
    train_file: str | None = MISSING
    eval_file: str | None = MISSING
    encoding: str = option("utf-8", encoding_name)
    eval_split: str | None = MISSING
    held_out: int | None = option(None, at_least(1))  # so many training rows are the first of `eval_splits`
    eval_rows: int | None = option(MISSING, at_least(1))

    def __post_init__(self) -> None:
        check_options(self, "task")
        require(bool(self.scored_splits), "task.eval_splits and task.others name no split: a run needs one to score")
        for kind, files in (("source", self.source), ("package", self.package)):
            pattern = (files and files.files) or ""
            require(names_in(pattern) <= {"split"}, f"task.{kind}.files={pattern}: only {{split}} may stand in braces")
        for split in self.scored_splits[:1]:
            require(
                split not in self.final_splits,
                f"task.final_splits: {split} has the headline metric, which every evaluation needs",
            )
        require(
            self.held_out is None or self.eval_file is None,
            f"task.held_out={self.held_out} and task.eval_file={self.eval_file}: set one of both to null",
        )
        for name in ("held_out", "eval_split", "eval_file"):
            require(
                bool(self.eval_splits) or getattr(self, name) is None,
                f"task.{name}: {self.name} is only scored on other data (task.others)",
            )
        require(bool(self.metrics), "task.metrics=[]: give one metric or more")
        for metric in self.metrics:
            allowed = ", ".join(self.known_metrics)
            require(metric in self.known_metrics, f"task.metrics: {metric} is unknown, allowed are {allowed}")
        require(
            self.headline in self.metrics,
            f"task.headline={self.headline}: allowed are task.metrics, {', '.join(self.metrics)}",
        )

    @property
    def own_files(self) -> bool:
        """Whether options name files, instead of the hub's or a package's."""
        return bool(self.data_dir or self.train_file or self.eval_file)

    @property
    def classes(self) -> list[str]:
        """Names of the head's classes; none if it isn't a classifier."""
        return []

    @property
    def plain_text(self) -> str | None:
        """The column that a .txt file is one row of; None: such a file has columns."""
        return None

    @property
    def scored_splits(self) -> list[str]:
        """The splits that are scored unless others are chosen; the first one has the headline metric."""
        return self.eval_splits

    def is_final(self, split: str) -> bool:
        """Whether a split is scored after the last step only."""
        return split in self.final_splits and split != self.eval_split

    @property
    def mean_tokens(self) -> tuple[float, float]:
        """Mean tokens per row for cost estimates: of the input, and of the decoder."""
        mean = min(self.mean_length or self.max_length, self.max_length)
        return mean, mean

    @property
    def direction(self) -> str:
        """Whether a higher headline metric is better (max) or a lower one (min)."""
        return "min" if self.headline in LOWER else "max"

    @property
    def eval_tokens(self) -> int:
        """Tokens of the longest input in evaluation."""
        return self.max_length

    @property
    def outputs(self) -> int:
        """Outputs of the head; 0: the model's own output layer."""
        return 0

    @property
    def generates(self) -> tuple[int, int] | None:
        """Beams and maximum tokens per beam in evaluation; None if nothing is generated."""
        return None

    def metric_name(self, metric: str, split: str) -> str:
        """A metric's name, with the part of the split's name that distinguishes it from the task's other splits.

        MNLI's accuracy on validation_matched is `accuracy_matched`; with one evaluation split names don't change.
        """
        part = split.removeprefix("validation").lstrip("_") if len(self.eval_splits) > 1 else ""
        return f"{metric}_{part}" if part else metric
