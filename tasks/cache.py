"""Tokenise rows once: cached by content, memory-mapped, shared by all runs."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from adalora.files.reading import Damaged, read_json
from adalora.files.writing import CHOOSE, new_folder, sha256, write_json
from tasks.discovery import create
from tasks.options import LAYOUT, Task

SUMS = "sha256.json"  # file with the checksums of an entry's files
ELSEWHERE = CHOOSE.format("cache_dir")


def tokenise(
    table: pa.Table,
    content: str,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_digest: str,
    training: bool,
    cache_dir: Path,
    warn: Callable[[str], None] = print,
) -> datasets.Dataset:
    """The model's inputs for the rows, from the cache if they are there; a damaged entry is recreated.

    Args:
        table: the rows.
        content: digest of the table.
        task: the task; its `tokens` options also determine the features.
        tokenizer, tokenizer_digest: the tokenizer and a digest of what it does.
        training: whether they are training rows.
        cache_dir: the cache; an entry's name depends on all of the above.
        warn: called with a line for the user.

    Raises:
        UserError: the cache can't be written.
    """
    options = {name: getattr(task, name) for name in task.tokenised}
    parts = [LAYOUT, task.type, options, content, tokenizer_digest, training]
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_dir / "tokenised" / name
    try:
        return load(folder)
    except Damaged as error:
        if replace := folder.exists():
            warn(f"the token cache's {folder} is damaged ({error.reason}): recreated")
        datasets.disable_progress_bars()
        save(create(task).features(table, tokenizer, training), folder, replace)
    return datasets.load_from_disk(folder)


def save(rows: datasets.Dataset, folder: Path, replace: bool = False) -> None:
    """Write an entry with checksums. Without `replace`, an entry that another run has written meanwhile is kept."""
    with new_folder(folder, replace, ELSEWHERE) as new:
        rows.save_to_disk(new)
        write_json(new / SUMS, {file.name: sha256(file) for file in sorted(new.iterdir())}, ELSEWHERE)


def load(folder: Path) -> datasets.Dataset:
    """Load an entry after checking every file. Raises `Damaged`."""
    remedy = "remove the folder"
    sums = read_json(folder / SUMS, dict[str, str], remedy)
    for name, expected in sums.items():
        file = folder / name
        if not file.is_file() or sha256(file) != expected:
            raise Damaged(file, "its checksum differs", remedy, missing=not file.exists())
    return datasets.load_from_disk(folder)
