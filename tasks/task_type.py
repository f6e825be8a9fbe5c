"""The interface of a type of task."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import datasets
import pyarrow as pa
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from tasks.options import Task

Options = TypeVar("Options", bound=Task)
Batch = dict[str, Tensor]
ReportProgress = Callable[[int, int], None]  # called with rows done and total rows, for a progress bar


@dataclass
class Split:
    """An evaluation split, ready to be evaluated."""

    name: str
    table: pa.Table  # the checked rows
    features: datasets.Dataset  # the model's inputs
    batches: DataLoader
    order: Tensor  # the feature index at each position of `batches`


class Scores(NamedTuple):
    """The result of an evaluation on one split."""

    metrics: dict[str, float]  # fractions
    loss: float  # mean task loss
    weight: float  # number of items in the mean
    predictions: Any  # for `samples` and `save`


class Other(NamedTuple):
    """An evaluation split from another data set."""

    task: Task  # of this type, with that data
    split: str
    rows: int | None  # the first so many; None: all


class Samples(NamedTuple):
    """Some rows with the model's predictions, for reading."""

    columns: list[str]
    rows: list[list[Any]]


class TaskType(ABC, Generic[Options]):
    """A type of task with its options: rows, loss and scores. `tasks.discovery.create(task)` creates one."""

    def __init__(self, task: Options) -> None:
        self.task = task

    @abstractmethod
    def check_rows(self, raw: pa.Table, where: str, training: bool) -> tuple[pa.Table, list[str]]:
        """Check every row, and return the columns that the task needs, with a line for each kind of row that is left
        out or unusual.

        Args:
            raw: the rows as stored.
            where: their source, for messages.
            training: whether they are training rows; evaluation may keep rows that training leaves out.

        Raises:
            UserError: a row isn't valid; the message says where and why.
        """

    def others(self) -> dict[str, Other]:
        """Further evaluation splits, from other data sets, by name."""
        return {}

    def separate(self, tables: dict[str, pa.Table]) -> tuple[dict[str, pa.Table], list[str]]:
        """Drop rows that an earlier split has, and name their numbers. `tables` are checked rows, training first."""
        return tables, []

    @abstractmethod
    def features(self, table: pa.Table, tokenizer: PreTrainedTokenizerBase, training: bool) -> datasets.Dataset:
        """The model's inputs, for training or evaluation: columns `input_ids`, `length` (tokens) and those of the
        type."""

    def notes(self, table: pa.Table, features: datasets.Dataset) -> list[str]:
        """Notes on a split's features, such as how many inputs were truncated."""
        return []

    def weights(self, features: datasets.Dataset) -> list[int] | None:
        """The weight of each feature in the mean loss; None: 1."""
        return None

    @abstractmethod
    def collate(self, tokenizer: PreTrainedTokenizerBase, multiple: int) -> Callable[[list[dict[str, Any]]], Batch]:
        """Collate rows of `features` to a batch, padded to a multiple of `multiple` tokens."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | int]:
        """The mean task loss of a batch, and its total weight."""

    @abstractmethod
    def evaluate(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        split: Split,
        tokenizer: PreTrainedTokenizerBase,
        report: ReportProgress,
    ) -> Scores:
        """Evaluate `model`, which is in evaluation mode; slow evaluations call `report`."""

    @abstractmethod
    def samples(self, split: Split, predictions: Any, count: int) -> Samples:
        """Pick `count` rows, evenly spread over the split."""

    def save(self, split: Split, predictions: Any, folder: Path) -> None:
        """Write the predictions into the run folder, for reading or for an official script."""
