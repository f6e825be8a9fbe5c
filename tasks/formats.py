"""Read files of rows as Arrow tables: Parquet, and CSV, TSV, JSON and Orange's .tab as text.

A text file's values stay as they are written (`0001`, `1e5`, `NA`, `TRUE`): the task, not the reader, decides what a
column is (`tasks/columns.py`).
"""

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from adalora.errors import UserError
from adalora.files.reading import reason

DELIMITERS = (",", "\t", ";")
LINE, NOT_BLANK = re.compile(r"\r\n?|\n"), re.compile(r"\S")
QUOTED_TABS = re.compile(r'(?>(?>"(?>[^"]|"")*+"|[^"\t\r\n]*+)(?>\t|\r\n?|\n|\Z))*+')
"""Tab-separated values with every quote where CSV has it."""
SEP = re.compile(r"sep=(.)(?:\r\n?|\n)")  # Excel's first line
ORANGE = [
    {"discrete", "d", "continuous", "c", "string", "s", "time", "t", ""},
    {"class", "c", "meta", "m", "ignore", "i", ""},
]
"""What the second and third line of Orange's .tab may have."""
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
ARCHIVES = {
    b"PK\x03\x04": "an Excel workbook or another archive: save it as CSV",
    b"\x1f\x8b": "compressed with gzip: unpack it",
}
"""The first bytes of what isn't text."""
DIGITS = 4300  # what Python reads as a number
MIXED = {b"mixed": b"text beside lists or objects"}  # metadata of a column that is read as text all the same
MOST = 2**31 - 1  # bytes of a block in Arrow's CSV reader, which must hold a whole row


class Number(str):
    """A number as it is written in JSON."""

    __slots__ = ()


def read_csv(text: str) -> pa.Table:
    """A header line, then rows, separated by whichever of comma, tab and semicolon the header has most of, or by what
    Excel's line `sep=;` says.

    Quoted values may contain line breaks and separators. Tab-separated values aren't quoted, unless all quotes are
    where they would be.
    """
    given = SEP.match(text)
    text = text[given.end() if given else 0 :].lstrip("\r\n").rstrip("\r\n") + "\n"
    if text == "\n":
        return pa.table({})
    header = re.sub('"[^"]*"', "", LINE.split(text, maxsplit=1)[0])
    delimiter = given[1] if given else max(DELIMITERS, key=header.count)
    quoted = delimiter != "\t" or ('"' in text and QUOTED_TABS.fullmatch(text) is not None)
    rows = csv.reader(
        text.splitlines(keepends=True), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    )
    content = text.encode()
    table = pa.csv.read_csv(
        pa.BufferReader(content),
        pa.csv.ReadOptions(block_size=min(len(content) + 1, MOST), use_threads=False),  # then errors name the row
        pa.csv.ParseOptions(delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted),
        pa.csv.ConvertOptions(column_types=dict.fromkeys(next(rows, []), pa.string()), strings_can_be_null=False),
    )
    if quoted and table.num_rows and str(table.column(-1)[-1]).endswith("\n"):  # the end of the file
        raise ValueError(f"the quote that opens in row {table.num_rows} isn't closed")
    return table


def read_tab(text: str) -> pa.Table:
    """Orange's .tab: three header lines (names, types, flags), then one row per line. Without them it is a CSV."""
    lines = [line.split("\t") for line in LINE.split(text) if line.strip()]
    if len(lines) < 3 or not all(allowed.issuperset(line) for allowed, line in zip(ORANGE, lines[1:], strict=False)):
        return read_csv(text)
    names, _, _, *rows = lines
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise ValueError(f"row {number}: expected {len(names)} columns, got {len(row)}")
    return pa.table([pa.array([row[i] for row in rows], pa.string()) for i in range(len(names))], names)


def read_json(text: str) -> pa.Table:
    """Objects one after another (JSON lines, or indented), an array of objects, or one object with the array `data`."""
    decoder = json.JSONDecoder(object_pairs_hook=unique, parse_int=Number, parse_float=Number, parse_constant=Number)
    rows, position = [], 0
    while start := NOT_BLANK.search(text, position):
        value, position = decoder.raw_decode(text, start.start())
        rows.append(value)
    if len(rows) == 1:
        (only,) = rows
        found = only.get("data") if isinstance(only, dict) else only
        rows = found if isinstance(found, list) else rows
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("rows must be objects with the columns as keys")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: column([row.get(name) for row in rows]) for name in names}
    fields = [pa.field(name, values.type, metadata=mark) for name, (values, mark) in columns.items()]
    return pa.table([values for values, _ in columns.values()], pa.schema(fields))


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a dictionary from a JSON object's pairs. Raises `ValueError` if a key occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"{max(Counter(key for key, _ in pairs).items(), key=lambda item: item[1])[0]!r} occurs twice")
    return found


def column(values: list[Any]) -> tuple[pa.Array, dict[bytes, bytes] | None]:
    """Text, as written; lists and objects with their numbers as numbers, or as JSON where they have no common type,
    with `MIXED`."""
    nested = [isinstance(value, dict | list) for value in values]
    if any(nested):
        numbered = [plain(value) for value in values]
        with suppress(pa.ArrowException, OverflowError):
            numbers = {type(part) for value in numbered if isinstance(value, list) for part in value}
            if not {int, float} <= numbers:  # Arrow would make a 1 a 1.0
                return pa.array(numbered), None
        values = [json.dumps(new) if own else value for value, new, own in zip(values, numbered, nested, strict=True)]
    texts = [json.dumps(value) if isinstance(value, bool) else value for value in values]
    return pa.array(texts, pa.string()), MIXED if any(nested) else None


def plain(value: Any) -> Any:
    """A JSON value with its numbers as numbers."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return json.loads(value) if isinstance(value, Number) and len(value) < DIGITS else value


READERS: dict[str, tuple[str, Callable[[str], pa.Table]]] = {
    ".csv": ("CSV", read_csv),
    ".tsv": ("TSV", read_csv),
    ".txt": ("CSV", read_csv),
    ".jsonl": ("JSON", read_json),
    ".ndjson": ("JSON", read_json),
    ".json": ("JSON", read_json),
    ".tab": ("tab-separated", read_tab),
}
"""Format and reader of text by file extension."""
ENDINGS = (".parquet", *READERS)
"""Extensions looked for in a user's data folder, in this order."""


def read_table(files: list[Path], encoding: str = "utf-8", text: str | None = None) -> pa.Table:
    """Read all rows of files of one format.

    Args:
        files: the files. Parquet is recognised by its content, text by the file's name.
        encoding: of text files.
        text: the column that a .txt file is one row of; None: it is a CSV file.

    Raises:
        UserError: a file is missing, has an unknown extension, another encoding or a column twice, or can't be read.
    """
    tables = []
    for path in files:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give task.data_dir={path}, or its files as '{path}/*.csv'")
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        ending = path.suffix.lower()
        name, parse = READERS.get(ending, ("rows", None))
        if ending == ".txt" and text is not None:
            name, parse = "text", lambda content: pa.table({text: [content]})
        try:
            if ending == ".parquet" or is_parquet(path):
                name = "parquet"
                table = pa.parquet.read_table(path)
            elif parse is None:
                raise UserError(f"{path}: unknown file type, names may end in {', '.join(ENDINGS)}")
            else:
                table = parse(decode(path, encoding))
        except (OSError, ValueError, csv.Error, RecursionError) as error:  # ArrowInvalid is a ValueError
            raise UserError(f"{path}: not readable as {name} ({reason(error)})") from error
        twice, count = Counter(table.column_names).most_common(1)[0] if table.column_names else ("", 0)
        if count > 1:
            raise UserError(f"{path} has the column {twice!r} {count} times: rename or remove one")
        tables.append(table)
    try:
        whole = pa.concat_tables(tables, promote_options="permissive")  # a column that one lacks is a gap there
    except pa.ArrowException as error:
        raise UserError(
            f"{files[0]} and the files beside it have columns of different types ({reason(error)})"
        ) from error
    mixed = {field.name for table in tables for field in table.schema if field.metadata == MIXED}
    fields = [field.with_metadata(MIXED) if field.name in mixed else field for field in whole.schema]
    return pa.Table.from_arrays(whole.columns, schema=pa.schema(fields, whole.schema.metadata))


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def decode(path: Path, encoding: str) -> str:
    """The text of a file; a byte order mark says which UTF it is. Raises `UserError` if it has another encoding."""
    content = path.read_bytes()
    for start, what in ARCHIVES.items():
        if content.startswith(start):
            raise UserError(f"{path} is {what}")
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), encoding)
    try:
        text = content.decode(marked)
        if "\0" in text:
            raise UserError(f"{path} has NUL characters: if it is UTF-16, say task.encoding=utf-16-le (or utf-16-be)")
        return text
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path} isn't {encoding} (line {line}): save it as UTF-8, or say which encoding it has, as in "
            "task.encoding=cp1252"
        ) from error
