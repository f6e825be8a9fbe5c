"""Rows to token ids, once: cached by content, memory-mapped, shared by all runs."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.table import InMemoryTable
from transformers import PreTrainedTokenizerBase

from adalora.errors import UserError


def tokenised(
    table: pa.Table,
    content: str,
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_digest: str,
    max_length: int,
    cache_dir: Path,
) -> datasets.Dataset:
    """`input_ids` (up to `max_length`, the longer text cut first), `label` and `length` of every row.

    Args:
        table: columns text_1, perhaps text_2, and label.
        content: digest of the table.
        tokenizer, tokenizer_digest: the tokenizer and a digest of its files.
        max_length: tokens, special ones included.
        cache_dir: where the result is kept, under a name made of all of the above.

    Raises:
        UserError: the cache can't be written.
    """
    name = hashlib.sha256(json.dumps([content, tokenizer_digest, max_length, 1]).encode()).hexdigest()[:24]
    folder = cache_dir / "tokenised" / name
    if not folder.is_dir():
        texts = [column for column in ("text_1", "text_2") if column in table.column_names]

        def encode(rows: dict[str, list[str]]) -> dict[str, list]:
            ids = tokenizer(*(rows[text] for text in texts), truncation=True, max_length=max_length)["input_ids"]
            return {"input_ids": ids, "length": [len(row) for row in ids]}

        rows = datasets.Dataset(InMemoryTable(table))
        datasets.disable_progress_bars()
        rows = rows.map(encode, batched=True, remove_columns=texts, keep_in_memory=True)
        write_once(rows, folder)
    return datasets.load_from_disk(folder)


def write_once(rows: datasets.Dataset, folder: Path) -> None:
    """Save under a temporary name, then rename: a half-written cache is never seen."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.parent / f".writing-{folder.name}-{os.getpid()}"
        try:
            rows.save_to_disk(temporary)
            os.rename(temporary, folder)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not folder.is_dir():  # another run may have been faster
                raise
    except OSError as error:
        raise UserError(
            f"the token cache {folder.parent} can't be written ({error.strerror}): "
            "free some space, or choose another place with cache_dir=FOLDER"
        ) from error
