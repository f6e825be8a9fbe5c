"""Rows to token ids, once: cached by content, memory-mapped, shared by all runs."""

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import datasets
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from adalora.config.tasks import Task
from adalora.errors import UserError
from tasks import create

LAYOUT = 3  # raised when `features` of a kind, or how a tokenizer is loaded, changes


def tokenised(
    table: pa.Table,
    content: str,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_digest: str,
    cache_dir: Path,
) -> datasets.Dataset:
    """What the model sees of the rows, from disk where it has been made before.

    Args:
        table: the rows.
        content: digest of the table.
        task: what decides the features beside the rows.
        tokenizer, tokenizer_digest: the tokenizer and a digest of its files.
        cache_dir: where the result is kept, under a name made of all of the above.

    Raises:
        UserError: the cache can't be written.
    """
    options = {name: value for name, value in asdict(task).items() if name in task.numbers}
    parts = [LAYOUT, task.kind, options, content, tokenizer_digest]
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_dir / "tokenised" / name
    if not folder.is_dir():
        datasets.disable_progress_bars()
        write_once(create(task).features(table, tokenizer), folder)
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
