"""Questions and answers on a decoder."""

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from adalora.files.writing import write_text
from tasks.answers.features import features, form_of
from tasks.answers.generate import MATCHES, final_number, generate
from tasks.answers.options import AnswersTask
from tasks.answers.rows import check_rows
from tasks.causal.tokens import DecoderType, feature_nats
from tasks.columns import total
from tasks.data import spread
from tasks.task_type import ReportProgress, Samples, Scores, Split


class Answers(DecoderType[AnswersTask]):
    """Rows have `prompt`, and `choices` and `gold`, or `answer`. Predictions are a dict for every row."""

    def check_rows(self, raw: pa.Table, where: str, training: bool) -> tuple[pa.Table, list[str]]:
        return check_rows(raw, self.task, where)

    def features(self, table: pa.Table, tokenizer: PreTrainedTokenizerBase, training: bool) -> datasets.Dataset:
        return features(table, self.task, tokenizer, training)

    def notes(self, table: pa.Table, features: datasets.Dataset) -> list[str]:
        found = []
        if count := total(pc.greater(features.data["cut"], 0)):
            share = f"{count:,} of {len(features):,} rows ({count / len(features):.1%})"
            found.append(f"{share} are truncated to task.max_length={self.task.max_length} tokens")
        if "exact_number" in self.task.metrics:
            answers = table["answer"].to_pylist()
            if count := sum(final_number(answer) is None for answer in answers):
                found.append(f"{count:,} of {len(answers):,} answers have no number and score 0 in exact_number")
        return found

    def weights(self, features: datasets.Dataset) -> list[int]:
        """Number of scored tokens: the loss is their mean."""
        return features["scored"][:]

    def evaluate(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        split: Split,
        tokenizer: PreTrainedTokenizerBase,
        report: ReportProgress,
    ) -> Scores:
        """Metrics, with n a (right) answer's negative log-likelihood in nats given the prompt:

            accuracy        share of rows whose right choice has the lowest n
            accuracy_norm   the same with n / characters of the choice
            bits_per_byte   sum n / ln 2 / bytes of the answers in UTF-8
            exact_match     share of generated answers that are the same but for white space
            exact_number    share of generated answers that end with the same number

        The loss is the mean over the tokens of the right answers. Of equal choices the first counts.
        """
        nats, scored = feature_nats(accelerator, model, split, report), split.features["scored"][:]
        rows = [{"row": row} for row in split.table["row"].to_pylist()]
        if self.task.choices:
            right = judge_choices(rows, split, nats.tolist())
        else:
            right = list(range(len(rows)))
            for row, n in zip(rows, nats.tolist(), strict=True):
                row["nats"] = n
        if self.task.generates:
            _, most = self.task.generates
            ends = [form_of(tokenizer, self.task.template).last[0], tokenizer.eos_token_id]
            found = generate(accelerator, model, split, tokenizer, most, list(dict.fromkeys(ends)), report)
            if opening := self.task.opening:  # a model that doesn't end goes on with a question of its own
                found = [text.partition(f"\n{opening}")[0].strip() for text in found]
            for row, text, reference in zip(rows, found, split.table["answer"].to_pylist(), strict=True):
                row |= {"prediction": text, "reference": reference}
                row |= {name: match(text, reference) for name, match in MATCHES.items() if name in self.task.metrics}
        metrics = {}
        for name in self.task.metrics:
            if name == "bits_per_byte":
                metrics[name] = nats.sum().item() / math.log(2) / answer_bytes(split.table)
            else:
                metrics[name] = sum(row[name] for row in rows) / len(rows)
        count = sum(scored[i] for i in right)
        return Scores(metrics, nats[right].sum().item() / count, count, rows)

    def samples(self, split: Split, predictions: list[dict[str, Any]], count: int) -> Samples:
        """What was found, row by row. Texts aren't shown."""
        names = [name for name in predictions[0] if name not in ("prediction", "reference")]
        rows = [[predictions[i][name] for name in names] for i in spread(len(predictions), count)]
        return Samples(names, rows)

    def save(self, split: Split, predictions: list[dict[str, Any]], folder: Path) -> None:
        """Write `predictions/<split>.jsonl`: the row's place in the file, and what was found."""
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in predictions)
        write_text(folder / "predictions" / f"{split.name}.jsonl", text)


def judge_choices(rows: list[dict[str, Any]], split: Split, nats: list[float]) -> list[int]:
    """Put `nats` of every choice and the accuracies into `rows`; return the features of the right choices."""
    right, first = [], 0
    columns = split.table.select(["choices", "gold"]).to_pylist()
    for row, given in zip(rows, columns, strict=True):
        choices, gold = given["choices"], given["gold"]
        found = nats[first : first + len(choices)]
        by_length = [n / len(choice) for n, choice in zip(found, choices, strict=True)]
        row |= {"nats": found, "gold": gold}
        row |= {"accuracy": found.index(min(found)) == gold, "accuracy_norm": by_length.index(min(by_length)) == gold}
        right.append(first + gold)
        first += len(choices)
    return right


def answer_bytes(table: pa.Table) -> int:
    """The bytes of all answers in UTF-8."""
    return sum(len(text.strip().encode()) for text in table["answer"].to_pylist())


TASK_TYPE = Answers
