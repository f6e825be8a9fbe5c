"""Read files of rows as Arrow tables: Parquet, CSV, JSON lines, and Orange's .tab."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from adalora.errors import UserError


def read_csv(path: Path) -> pa.Table:
    """Comma-separated values with a header line; quoted values may contain line breaks."""
    return pa.csv.read_csv(path, parse_options=pa.csv.ParseOptions(newlines_in_values=True))


def read_tab(path: Path) -> pa.Table:
    """Orange's .tab format: three header lines (names, types, flags), then one row per line."""
    names, _, _, *lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line.strip()]
    return pa.table(dict(zip(names.split("\t"), map(list, zip(*rows, strict=True)), strict=True)))


READERS: dict[str, tuple[str, Callable[[Path], pa.Table]]] = {
    ".parquet": ("parquet", pa.parquet.read_table),
    ".csv": ("CSV", read_csv),
    ".jsonl": ("JSON lines", pa.json.read_json),
    ".json": ("JSON lines", pa.json.read_json),
    ".tab": ("Orange's tab", read_tab),
}
"""Format and reader by file extension. The readers are Arrow's, which `datasets` also uses."""
ENDINGS = (".parquet", ".csv", ".jsonl", ".json")
"""Extensions looked for in a user's data folder, in this order."""


def read_table(files: list[Path]) -> pa.Table:
    """Read all rows of files of one format.

    Raises:
        UserError: a file is missing, has an unknown extension, or can't be read.
    """
    tables = []
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        if path.suffix not in READERS:
            raise UserError(f"{path}: unknown file type, names may end in {', '.join(ENDINGS)}")
        name, read = READERS[path.suffix]
        try:
            tables.append(read(path))
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise UserError(f"{path}: not readable as {name} ({str(error).splitlines()[0]})") from error
    return pa.concat_tables(tables)
