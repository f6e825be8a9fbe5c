"""Causal language modelling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tasks.causal.options import LOGITS, CausalTask
from tasks.causal.text import blocks, check_rows, separate, start_of, windows
from tasks.data import spread
from tasks.task_type import Batch, Other, ReportProgress, Samples, Scores, Split, TaskType

if TYPE_CHECKING:
    import datasets
    from accelerate import Accelerator

IGNORED = -100  # the label that cross-entropy ignores


class Causal(TaskType[CausalTask]):
    """Rows have `text`; predictions are the bits of every article."""

    outputs = 0  # the model's own output layer

    def check_rows(self, raw: pa.Table, where: str, training: bool) -> tuple[pa.Table, list[str]]:
        return check_rows(raw, self.task, where)

    def others(self) -> dict[str, Other]:
        found = {}
        for name, other in self.task.others.items():
            task = replace(
                self.task, name=other.name, source=other.source, package=other.package, data_dir=other.data_dir,
                text=other.text, unique=[], others={}, rows={}, train_file=None, eval_file=None, eval_split=None,
            )  # fmt: skip
            found[name] = Other(task, other.split, other.rows)
        return found

    def separate(self, tables: dict[str, pa.Table]) -> tuple[dict[str, pa.Table], list[str]]:
        return separate(tables) if self.task.unique else (tables, [])

    def features(self, table: pa.Table, tokenizer: PreTrainedTokenizerBase, training: bool) -> datasets.Dataset:
        if training:
            return blocks(table, tokenizer, self.task.max_length)
        return windows(table, tokenizer, self.task.eval_length, self.task.eval_stride)

    def weights(self, features: datasets.Dataset) -> list[int]:
        """Number of predicted tokens: the loss is their mean."""
        return [length - 1 for length in features["length"]]

    def collate(self, tokenizer: PreTrainedTokenizerBase, multiple: int) -> Callable[[list[dict[str, Any]]], Batch]:
        """`input_ids` (rows, tokens), padded on the right, and `labels`, the next token at each of the last positions,
        from the first that is scored. Attention is causal, so tokens don't see padding and no mask is needed."""
        pad = start_of(tokenizer)

        def collate(rows: list[dict[str, Any]]) -> Batch:
            longest = max(len(row["input_ids"]) for row in rows)
            shape = (len(rows), -(-longest // multiple) * multiple)
            ids, labels = torch.full(shape, pad), torch.full(shape, IGNORED)
            for i, row in enumerate(rows):
                tokens = torch.tensor(row["input_ids"])
                scored = row.get("scored", len(tokens) - 1)
                ids[i, : len(tokens)] = tokens
                labels[i, len(tokens) - 1 - scored : len(tokens) - 1] = tokens[len(tokens) - scored :]
            first = int((labels != IGNORED).any(0).int().argmax())
            return {"input_ids": ids, "labels": labels[:, first:]}

        return collate

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats over the predicted tokens."""
        nats, count = token_nats(model, batch), (batch["labels"] != IGNORED).sum()
        return nats.sum() / count, count

    @torch.inference_mode()
    def evaluate(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        split: Split,
        tokenizer: PreTrainedTokenizerBase,
        report: ReportProgress,
    ) -> Scores:
        """Bits per byte: the bits of all tokens over the articles' bytes in UTF-8."""
        parts = []
        report(0, len(split.order))
        vocabulary = accelerator.unwrap_model(model).config.vocab_size
        for batch in split.batches:
            few = max(1, LOGITS // (batch["labels"].shape[1] * vocabulary))
            pieces = zip(batch["input_ids"].split(few), batch["labels"].split(few), strict=True)
            nats = [token_nats(model, {"input_ids": ids, "labels": labels}).double().sum(1) for ids, labels in pieces]
            parts.append(accelerator.gather_for_metrics(torch.cat(nats)).cpu())
            report(sum(map(len, parts)), len(split.order))
        articles = torch.tensor(split.features["article"][:])[split.order]
        bits = torch.zeros(split.table.num_rows, dtype=torch.double)
        bits.index_add_(0, articles, torch.cat(parts) / math.log(2))
        count = sum(split.features["scored"][:])
        score = bits.sum().item() / sum(sizes(split.table))
        return Scores({"bits_per_byte": score}, bits.sum().item() * math.log(2) / count, count, bits)

    def samples(self, split: Split, predictions: Tensor, count: int) -> Samples:
        """Columns: row, bytes, bits_per_byte. Texts aren't shown."""
        bytes_of = sizes(split.table)
        rows = [[i, bytes_of[i], predictions[i].item() / bytes_of[i]] for i in spread(split.table.num_rows, count)]
        return Samples(["row", "bytes", "bits_per_byte"], rows)


def token_nats(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy in nats at each of the labels (batch, labels), 0 where there is none."""
    labels = batch["labels"]
    logits = model(input_ids=batch["input_ids"], use_cache=False, logits_to_keep=labels.shape[1]).logits
    nats = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none", ignore_index=IGNORED)
    return nats.view_as(labels)


def sizes(table: pa.Table) -> list[int]:
    """The bytes of every article in UTF-8."""
    return pc.binary_length(table["text"].cast(pa.binary())).to_pylist()


TASK_TYPE = Causal
