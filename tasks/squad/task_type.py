"""Extractive question answering: SQuAD v1.1, and v2.0 with unanswerable questions.

docs/deviations.md: D-qa-padding.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from tasks.batches import collator, predict
from tasks.data import spread
from tasks.squad.answers import Answers, find_answers, write_predictions
from tasks.squad.options import SquadTask
from tasks.squad.rows import check_rows
from tasks.squad.windows import windows, without_window
from tasks.task_type import Batch, ReportProgress, Samples, Scores, Split, TaskType


class Squad(TaskType[SquadTask]):
    """Rows of id, question, context and answers; features are windows; predictions are `Answers`."""

    def __init__(self, task: SquadTask) -> None:
        super().__init__(task)
        self.threshold = task.null_threshold if task.unanswerable else None

    def check_rows(self, raw: pa.Table, where: str, training: bool) -> tuple[pa.Table, list[str]]:
        table, notes = check_rows(raw, where, self.task.unanswerable, training)
        if self.task.unanswerable and training:
            answered = sum(len(answers["text"]) > 0 for answers in table["answers"].to_pylist())
            if answered == table.num_rows:
                notes.append(f"{where}: every question has an answer, so the model can't learn to give none")
        return table, notes

    def features(self, table: pa.Table, tokenizer: PreTrainedTokenizerBase, training: bool) -> datasets.Dataset:
        return windows(table, tokenizer, self.task.max_length, self.task.stride)

    def notes(self, table: pa.Table, features: datasets.Dataset) -> list[str]:
        missing = without_window(table, features)
        if not missing:
            return []
        return [
            f"{len(missing)} rows have no window, as their questions leave no more than task.stride="
            f"{self.task.stride} of task.max_length={self.task.max_length} tokens for the context (first: "
            f"{missing[0]}): training leaves them out, scores count them as unanswered"
        ]

    def collate(self, tokenizer: PreTrainedTokenizerBase, multiple: int) -> Callable[[list[dict[str, Any]]], Batch]:
        return collator(DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple), ("input_ids", "start", "end"))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        places = torch.stack((batch["start"], batch["end"]), dim=1)
        return span_loss(forward(model, batch), places), len(places)

    def evaluate(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        split: Split,
        tokenizer: PreTrainedTokenizerBase,
        report: ReportProgress,
    ) -> Scores:
        from tasks.squad.scores import SquadMetric  # importing evaluate takes long

        logits = predict(accelerator, model, split, forward)
        columns = split.features.with_format("torch")
        places = torch.stack((columns["start"][:], columns["end"][:]), dim=1)
        starts, ends = logits.unbind(1)
        answers = find_answers(
            split.features, split.table, starts.numpy(), ends.numpy(), self.task.n_best, self.task.max_answer_length
        )
        references = [given["text"] for given in split.table["answers"].to_pylist()]
        odds = {} if self.threshold is None else {"null_odds": answers.null_odds}
        # the metric applies the threshold itself and needs the texts without it (D-best-threshold)
        found = SquadMetric(self.threshold).compute(predictions=answers.text, references=references, **odds)
        return Scores(found or {}, span_loss(logits, places).item(), len(places), answers)

    def samples(self, split: Split, predictions: Answers, count: int) -> Samples:
        """Columns: id, question, context, references, prediction, exact_match, f1, and in v2 null_odds."""
        from tasks.squad.scores import scores

        odds = {} if self.threshold is None else {"null_odds": predictions.null_odds.tolist()}
        texts = predictions.predictions(self.threshold)
        columns = ["id", "question", "context", "references", "prediction", "exact_match", "f1", *odds]
        rows = []
        for i in spread(split.table.num_rows, count):
            name, question, context, answers = (column[i].as_py() for column in split.table.columns)
            references = list(dict.fromkeys(answers["text"]))
            right = scores([texts[i]], [references]).values() if references else [float(not texts[i])] * 2
            shown = [name, question, context, " | ".join(references), texts[i], *right]
            rows.append([*shown, *(values[i] for values in odds.values())])
        return Samples(columns, rows)

    def save(self, split: Split, predictions: Answers, folder: Path) -> None:
        """Write `predictions/<split>/` in the official scripts' format."""
        write_predictions(folder / "predictions" / split.name, predictions, self.threshold)


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Start and end logits (batch, 2, tokens), -inf at padding (D-qa-padding)."""
    mask = batch["attention_mask"]
    out = model(input_ids=batch["input_ids"], attention_mask=mask)
    logits = torch.stack((out.start_logits, out.end_logits), dim=1)
    return logits.masked_fill(mask[:, None] == 0, float("-inf"))


def span_loss(logits: Tensor, places: Tensor) -> Tensor:
    """Mean cross-entropy of start and end: logits (windows, 2, tokens), positions (windows, 2)."""
    return F.cross_entropy(logits.flatten(0, 1), places.flatten())


TASK_TYPE = Squad
