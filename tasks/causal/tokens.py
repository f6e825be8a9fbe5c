"""Next tokens: batches of them, and their log-likelihood. Shared by the types of task on decoders.

Features have `input_ids`. The last `scored` tokens count towards the loss; without `scored` all but the first do.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import datasets
import pyarrow as pa
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from datasets.table import InMemoryTable
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from adalora.errors import UserError
from tasks.causal.options import LOGITS, DecoderTask
from tasks.masks import given_masks
from tasks.task_type import Batch, Other, ReportProgress, Split, TaskType

Options = TypeVar("Options", bound=DecoderTask)
IGNORED = -100  # the label that cross-entropy ignores


def start_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token before a text: BOS, or EOS where the tokenizer has no BOS. Raises `UserError` if it has neither."""
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if start is None:
        raise UserError("the tokenizer has neither a BOS nor an EOS token: a language model needs one")
    return start


def dataset(columns: dict[str, list]) -> datasets.Dataset:
    """The columns, with the length of each row."""
    return datasets.Dataset(InMemoryTable(pa.table(columns | {"length": [len(ids) for ids in columns["input_ids"]]})))


def collator(tokenizer: PreTrainedTokenizerBase, multiple: int) -> Callable[[list[dict[str, Any]]], Batch]:
    """Collate to `input_ids` (rows, tokens), padded on the right to a multiple of `multiple`, and `labels`, the next
    token at each of the last positions, from the first that is scored. Attention is causal, so tokens don't see padding
    and no mask is needed."""
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


class DecoderType(TaskType[Options]):
    """A type of task on a decoder, which learns and scores next tokens."""

    def others(self) -> dict[str, Other]:
        return {name: Other(self.task.on(other), other.split, other.rows) for name, other in self.task.others.items()}

    def collate(self, tokenizer: PreTrainedTokenizerBase, multiple: int) -> Callable[[list[dict[str, Any]]], Batch]:
        return collator(tokenizer, multiple)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats over the scored tokens, and their number."""
        nats, count = token_nats(model, batch), (batch["labels"] != IGNORED).sum()
        return nats.sum() / count, count


def token_nats(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy in nats at each of the labels (batch, labels), 0 where there is none."""
    labels = batch["labels"]
    with given_masks(model):
        logits = model(input_ids=batch["input_ids"], use_cache=False, logits_to_keep=labels.shape[1]).logits
    nats = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none", ignore_index=IGNORED)
    return nats.view_as(labels)


@torch.inference_mode()
def feature_nats(accelerator: Accelerator, model: nn.Module, split: Split, report: ReportProgress) -> Tensor:
    """The sum of `token_nats` of every feature (features,), in order, in double precision on the CPU."""
    parts = []
    report(0, len(split.order))
    vocabulary = accelerator.unwrap_model(model).config.vocab_size
    for batch in split.batches:
        few = max(1, LOGITS // (batch["labels"].shape[1] * vocabulary))
        pieces = zip(batch["input_ids"].split(few), batch["labels"].split(few), strict=True)
        nats = [token_nats(model, {"input_ids": ids, "labels": labels}).double().sum(1) for ids, labels in pieces]
        parts.append(accelerator.gather_for_metrics(torch.cat(nats)).cpu())
        report(sum(map(len, parts)), len(split.order))
    found = torch.cat(parts)
    return torch.empty_like(found).index_copy_(0, split.order, found)
