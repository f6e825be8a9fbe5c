"""What the suite asks of a type of task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import pyarrow as pa
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

if TYPE_CHECKING:
    import datasets
    from accelerate import Accelerator

Batch = dict[str, Tensor]
ReportProgress = Callable[[int, int], None]  # rows done and their number, for a progress bar


@dataclass
class Split:
    """An evaluation split, ready to be evaluated."""

    name: str
    table: pa.Table  # the rows as checked
    features: datasets.Dataset  # what the model sees of them
    batches: DataLoader
    order: Tensor  # the feature at each place in `batches`


class Scores(NamedTuple):
    """What an evaluation found on one split."""

    metrics: dict[str, float]  # fractions
    loss: float  # mean task loss
    weight: float  # what it is a mean over
    predictions: Any  # for `samples` and `save`


class Samples(NamedTuple):
    """Some rows with what the model makes of them, for a person to read."""

    columns: list[str]
    rows: list[list[Any]]


class TaskType(Protocol):
    """A type of task: its rows, its loss, its scores. `tasks.discovery.create(task)` gives one."""

    merges: ClassVar[bool] = False  # evaluate with the adapters folded into the weights

    @property
    def outputs(self) -> int:
        """Outputs of the head."""
        ...

    def checked(self, raw: pa.Table, where: str, training: bool) -> tuple[pa.Table, list[str]]:
        """The columns that the task needs, every row checked, and a line for each sort of row that is left
        out or odd.

        Args:
            raw: the rows as stored.
            where: their place, for messages.
            training: whether they are trained on; evaluation may have to keep what training leaves out.

        Raises:
            UserError: what is wrong, and where.
        """
        ...

    def features(self, table: pa.Table, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        """What the model sees: columns `input_ids`, `length` (tokens) and those of the type."""
        ...

    def notes(self, table: pa.Table, features: datasets.Dataset) -> list[str]:
        """What should be known of a split's features, such as how many inputs were cut."""
        return []

    def weights(self, features: datasets.Dataset) -> list[int] | None:
        """What each feature counts in the mean loss; None: 1."""
        return None

    def collate(self, tokenizer: PreTrainedTokenizerBase, multiple: int) -> Callable[[list[dict[str, Any]]], Batch]:
        """Rows of `features` to a batch, padded to a multiple of `multiple` tokens."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | int]:
        """The mean task loss of a batch, and the weight that it is a mean over."""
        ...

    def evaluate(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        split: Split,
        tokenizer: PreTrainedTokenizerBase,
        report: ReportProgress,
    ) -> Scores:
        """Scores of `model`, which is in evaluation mode; `report` is called during slow work."""
        ...

    def samples(self, split: Split, predictions: Any, count: int) -> Samples:
        """`count` rows spread evenly over the split."""
        ...

    def save(self, split: Split, predictions: Any, folder: Path) -> None:
        """Write the predictions into the run's `folder`, where a person or an official script may want them."""
