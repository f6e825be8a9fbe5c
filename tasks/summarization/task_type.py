"""Summarisation with an encoder-decoder: XSum and CNN/DailyMail."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from adalora.files.writing import write_text
from tasks.batches import collator
from tasks.data import spread
from tasks.masks import given_masks
from tasks.summarization.generate import generate
from tasks.summarization.options import SummarizationTask
from tasks.summarization.rows import check_rows, features, notes
from tasks.task_type import Batch, ReportProgress, Samples, Scores, Split, TaskType

IGNORED = -100  # the label that the library's loss ignores


class Summarization(TaskType[SummarizationTask]):
    """Rows have source and target; predictions are texts."""

    def check_rows(self, raw: pa.Table, where: str, training: bool) -> tuple[pa.Table, list[str]]:
        return check_rows(raw, self.task, where)

    def features(self, table: pa.Table, tokenizer: PreTrainedTokenizerBase, training: bool) -> datasets.Dataset:
        return features(table, tokenizer, self.task.max_length, self.task.max_target_length)

    def notes(self, table: pa.Table, features: datasets.Dataset) -> list[str]:
        return notes(table, features, self.task.max_length, self.task.max_target_length)

    def weights(self, features: datasets.Dataset) -> list[int]:
        """Number of target tokens: the loss is their mean."""
        return [min(length, self.task.max_target_length) for length in features["target_length"]]

    def collate(self, tokenizer: PreTrainedTokenizerBase, multiple: int) -> Callable[[list[dict[str, Any]]], Batch]:
        collate = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=multiple, label_pad_token_id=IGNORED)
        return collator(collate, ("input_ids", "labels"))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The library's loss: mean cross-entropy over the target tokens, with the labels shifted as decoder inputs."""
        with given_masks(model) as given:
            mask = batch["attention_mask"]
            inputs = batch | {"attention_mask": mask[:, None, None].bool() if given else mask}
            return model(**inputs, use_cache=False).loss, (batch["labels"] != IGNORED).sum()

    def evaluate(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        split: Split,
        tokenizer: PreTrainedTokenizerBase,
        report: ReportProgress,
    ) -> Scores:
        from tasks.summarization.rouge import Rouge  # importing evaluate takes long

        loss, weight = self.mean_loss(accelerator, model, split)
        ids = generate(accelerator, model, split.batches, split.order, self.task, report)
        texts = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
        references = split.table["target"].to_pylist()
        return Scores(Rouge().compute(predictions=texts, references=references) or {}, loss, weight, texts)

    @torch.inference_mode()
    def mean_loss(self, accelerator: Accelerator, model: nn.Module, split: Split) -> tuple[float, float]:
        """Mean loss over all target tokens, and their number."""
        parts = []
        for batch in split.batches:
            per_token = torch.nn.functional.cross_entropy(
                model(**batch, use_cache=False).logits.float().transpose(1, 2),
                batch["labels"],
                reduction="none",
                ignore_index=IGNORED,
            )
            both = torch.stack((per_token.sum(1).double(), (batch["labels"] != IGNORED).sum(1).double()), dim=1)
            parts.append(accelerator.gather_for_metrics(both).cpu())
        total, weight = torch.cat(parts).sum(0).tolist()
        return total / weight, weight

    def samples(self, split: Split, predictions: list[str], count: int) -> Samples:
        """Columns: document, reference, prediction, and the four ROUGE of the row."""
        from tasks.summarization.rouge import Rouge

        rows, names = [], list(self.task.metrics)
        for i in spread(split.table.num_rows, count):
            document, reference = split.table["source"][i].as_py(), split.table["target"][i].as_py()
            found = Rouge().compute(predictions=[predictions[i]], references=[reference]) or {}
            rows.append([document, reference, predictions[i], *(found[name] for name in names)])
        return Samples(["document", "reference", "prediction", *names], rows)

    def save(self, split: Split, predictions: list[str], folder: Path) -> None:
        """Write `predictions/<split>.jsonl`: reference, prediction, and the row's id if it has one."""
        columns = {name: split.table[name].to_pylist() for name in ("id", "target") if name in split.table.column_names}
        lines = zip(*columns.values(), predictions, strict=True)
        names = ["reference" if name == "target" else name for name in columns] + ["prediction"]
        text = "".join(json.dumps(dict(zip(names, line, strict=True)), ensure_ascii=False) + "\n" for line in lines)
        write_text(folder / "predictions" / f"{split.name}.jsonl", text)


TASK_TYPE = Summarization
