"""Check and tokenise documents and summaries for an encoder-decoder.

docs/deviations.md: D-empty-rows.
"""

import re
from collections import Counter

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets.table import InMemoryTable
from transformers import PreTrainedTokenizerBase

from adalora.errors import UserError
from tasks.columns import as_text, blank, needed, total
from tasks.summarization.options import SummarizationTask

FOREIGN = 0.05  # share of letters beyond a to z from which ROUGE is doubtful (ours)


def check_rows(raw: pa.Table, task: SummarizationTask, where: str) -> tuple[pa.Table, list[str]]:
    """Return columns `source`, `target` and, if there is one, `id` as text, with a line for each kind of row left out.

    Rows with an empty document or summary are left out: there is nothing to learn or to score.

    Raises:
        UserError: a column is missing, isn't text or has nulls.
    """
    needed(raw, [task.document, task.summary], where, "rename it, or set task.document and task.summary")
    if task.document == task.summary:
        raise UserError(f"task.document and task.summary are both {task.document}: a summary needs a column of its own")
    table = {"source": as_text(raw, task.document, where), "target": as_text(raw, task.summary, where)}
    if "id" in raw.column_names and not pa.types.is_nested(raw["id"].type) and not raw["id"].null_count:
        table["id"] = as_text(raw, "id", where)
    rows = pa.table(table)
    no_source, no_target = (blank(rows[name]) for name in ("source", "target"))
    rows = rows.filter(pc.invert(pc.or_(no_source, no_target)))
    flagged = {"an empty document": no_source, "an empty summary": pc.and_not(no_target, no_source)}
    return rows, [f"left out: {count:,} with {what}" for what, flags in flagged.items() if (count := total(flags))]


def features(
    table: pa.Table, tokenizer: PreTrainedTokenizerBase, max_source_length: int, max_target_length: int
) -> datasets.Dataset:
    """The model's inputs for every row, prepared as in the released summarisation script:

        input_ids   <s> document </s>, truncated to `max_source_length` tokens
        labels      <s> summary </s>, truncated to `max_target_length` tokens
        length      tokens of `input_ids`
        source_length, target_length    tokens before truncation

    Truncation keeps </s>. With BERT's vocabulary [CLS] and [SEP] replace <s> and </s>. Lengths include special tokens.

    Args:
        table: from `check_rows`.
        tokenizer: the model's.
        max_source_length, max_target_length: at most the model's positions.

    Raises:
        UserError: the tokenizer doesn't add start and end tokens.
    """
    probe = tokenizer("a")["input_ids"]
    if len(probe) < 3 or probe[0] not in tokenizer.all_special_ids or probe[-1] not in tokenizer.all_special_ids:
        raise UserError("the tokenizer doesn't put texts between <s> and </s>: summarisation needs one like BART's")

    def encode(texts: list[str], limit: int) -> tuple[list[list[int]], list[int]]:
        whole = tokenizer(texts, verbose=False)["input_ids"]
        cut = [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in whole]
        return cut, [len(ids) for ids in whole]

    def columns(rows: dict[str, list[str]]) -> dict[str, list]:
        sources, source_lengths = encode(rows["source"], max_source_length)
        labels, target_lengths = encode(rows["target"], max_target_length)
        return {
            "input_ids": sources,
            "labels": labels,
            "length": [len(ids) for ids in sources],
            "source_length": source_lengths,
            "target_length": target_lengths,
        }

    rows = datasets.Dataset(InMemoryTable(table))
    return rows.map(columns, batched=True, remove_columns=table.column_names, keep_in_memory=True)


def notes(table: pa.Table, rows: datasets.Dataset, max_source_length: int, max_target_length: int) -> list[str]:
    """Count truncated documents and summaries of `features`, and summaries that ROUGE can't score, one line each.

    rouge_score's words, and so the paper's, are of the letters a to z and digits.
    """
    found = []
    summaries = table["target"].to_pylist()
    letters = Counter("".join(summaries).lower())
    others = sum(count for letter, count in letters.items() if letter.isalpha() and not letter.isascii())
    if wordless := sum(re.search("[a-z0-9]", text.lower()) is None for text in summaries):
        found.append(f"{wordless:,} of {len(summaries):,} summaries have no word that ROUGE counts and score 0")
    if others > FOREIGN * sum(count for letter, count in letters.items() if letter.isalpha()):
        found.append("ROUGE only counts the letters a to z and digits: other letters here don't change the scores")
    for what, name, option, limit in (
        ("documents", "source_length", "max_length", max_source_length),
        ("summaries", "target_length", "max_target_length", max_target_length),
    ):
        cut = total(pc.greater(rows.data[name], limit))
        if cut:
            share = f"{cut:,} of {len(rows):,} {what} ({cut / len(rows):.1%})"
            found.append(f"{share} are truncated to task.{option}={limit} tokens")
    return found
