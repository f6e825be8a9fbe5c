"""Causal language modelling."""

import math
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from adalora.files.writing import write_json
from tasks.causal.options import CausalTask
from tasks.causal.text import blocks, check_rows, separate, windows
from tasks.causal.tokens import DecoderType, feature_nats
from tasks.data import spread
from tasks.task_type import ReportProgress, Samples, Scores, Split


class Causal(DecoderType[CausalTask]):
    """Rows have `text`; predictions are the bits of every article."""

    def check_rows(self, raw: pa.Table, where: str, training: bool) -> tuple[pa.Table, list[str]]:
        return check_rows(raw, self.task, where)

    def separate(self, tables: dict[str, pa.Table]) -> tuple[dict[str, pa.Table], list[str]]:
        return separate(tables) if self.task.unique else (tables, [])

    def features(self, table: pa.Table, tokenizer: PreTrainedTokenizerBase, training: bool) -> datasets.Dataset:
        if training:
            return blocks(table, tokenizer, self.task.max_length)
        return windows(table, tokenizer, self.task.eval_length, self.task.eval_stride)

    def weights(self, features: datasets.Dataset) -> list[int]:
        """Number of predicted tokens: the loss is their mean."""
        return [length - 1 for length in features["length"]]

    def evaluate(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        split: Split,
        tokenizer: PreTrainedTokenizerBase,
        report: ReportProgress,
    ) -> Scores:
        """Bits per byte: the bits of all tokens over the articles' bytes in UTF-8."""
        nats = feature_nats(accelerator, model, split, report)
        bits = torch.zeros(split.table.num_rows, dtype=torch.double)
        bits.index_add_(0, torch.tensor(split.features["article"][:]), nats / math.log(2))
        count = sum(split.features["scored"][:])
        score = bits.sum().item() / sum(sizes(split.table))
        return Scores({"bits_per_byte": score}, bits.sum().item() * math.log(2) / count, count, bits)

    def samples(self, split: Split, predictions: Tensor, count: int) -> Samples:
        """Columns: row, bytes, bits_per_byte. Texts aren't shown."""
        bytes_of = sizes(split.table)
        rows = [[i, bytes_of[i], predictions[i].item() / bytes_of[i]] for i in spread(split.table.num_rows, count)]
        return Samples(["row", "bytes", "bits_per_byte"], rows)

    def save(self, split: Split, predictions: Tensor, folder: Path) -> None:
        """Write `predictions/<split>.json`: bits and bytes of every article, in order, without texts."""
        bits = [round(each, 3) for each in predictions.tolist()]
        write_json(folder / "predictions" / f"{split.name}.json", {"bits": bits, "bytes": sizes(split.table)})


def sizes(table: pa.Table) -> list[int]:
    """The bytes of every article in UTF-8."""
    return pc.binary_length(table["text"].cast(pa.binary())).to_pylist()


TASK_TYPE = Causal
