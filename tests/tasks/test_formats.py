"""Files of rows as people have them: what is read, and what is said of a file that can't be."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adalora.errors import UserError
from tasks.columns import as_text
from tasks.formats import read_table
from tests.tasks.test_own_files import ROWS, as_csv


def as_lines(path, rows):
    lines = zip(*rows.values(), strict=True)
    path.write_text("".join(json.dumps(dict(zip(rows, line, strict=True))) + "\n" for line in lines), encoding="utf-8")


@pytest.mark.parametrize("name, write", [("a.csv", as_csv), ("a.jsonl", as_lines), ("a.json", as_lines)])
def test_every_format_gives_the_same_rows(tmp_path, name, write):
    """Commas, quotes and line breaks in a text, and texts that other readers take for gaps."""
    write(tmp_path / name, ROWS)
    pq.write_table(pa.table(ROWS), tmp_path / "a.parquet")
    assert read_table([tmp_path / name]).to_pydict() == read_table([tmp_path / "a.parquet"]).to_pydict() == ROWS


@pytest.mark.parametrize(
    "name, content, message",
    [
        (
            "a.csv",
            b"text,mood\none,two,three\n",
            r"a\.csv: not readable as CSV \(CSV parse error: Row #2: Expected 2 columns",
        ),
        (
            "a.csv",
            b'mood,text\n1,a\n0,"b\n1,c\n',
            r"a\.csv: not readable as CSV \(the quote that opens in row 2 isn't closed",
        ),
        ("a.tab", b"a\tb\nd\ts\n\tm\n1\n", r"not readable as tab-separated \(row 1: expected 2 columns, got 1"),
        ("a.csv", b"PK\x03\x04\xff", r"a\.csv is an Excel workbook or another archive: save it as CSV"),
        ("a.jsonl", b"\x1f\x8b\x08", r"a\.jsonl is compressed with gzip: unpack it"),
        ("a.csv", "text\na\n".encode("utf-16-le"), r"NUL characters: if it is UTF-16, say task\.encoding=utf-16-le"),
        (
            "a.csv",
            b"text\n\xff\xfe\xfa\n",
            r"a\.csv isn't utf-8 \(line 2\): save it as UTF-8, or .* task\.encoding=cp1252",
        ),
        ("a.csv", b"t\xe9xt\na\n", r"isn't utf-8 \(line 1\)"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', r"isn't utf-8 \(line 1\)"),
        ("a.csv", b"text,mood,mood\na,b,c\n", r"a\.csv has the column 'mood' 2 times: rename or remove one"),
        ("a.csv", b"text,,\na,b,c\n", r"has the column '' 2 times"),
        ("a.json", b'{"text": "a", "text": "b"}', r"not readable as JSON \('text' occurs twice\)"),
        ("a.json", b'["a", "b"]', r"not readable as JSON \(rows must be objects with the columns as keys\)"),
        ("a.json", b'{"text": {"0": "a"}} x', r"not readable as JSON \(Expecting value"),
        ("a.jsonl", b'{"text": ', r"a\.jsonl: not readable as JSON \("),
        (
            "a.xlsx",
            b"PK",
            r"unknown file type, names may end in \.parquet, \.csv, \.tsv, \.txt, \.jsonl, \.ndjson, \.json, \.tab$",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table([tmp_path / name])


AS_WRITTEN = {"text": ["0001", "1e5", "TRUE", "NA", "2024-01-31", "1.0", "-0"], "mood": ["bad"] * 7}

LONG = {"text": ["word " * 700_000, "a"], "mood": ["bad", "good"]}

NUMBERS = '{"text": 0.10, "mood": 1e5}\n{"text": true, "mood": -0}\n'


@pytest.mark.parametrize("rows", [AS_WRITTEN, LONG], ids=["as written", "long"])
@pytest.mark.parametrize("name, write", [("a.csv", as_csv), ("a.jsonl", as_lines)])
def test_text_stays_as_it_is_written(tmp_path, name, write, rows):
    write(tmp_path / name, rows)
    assert read_table([tmp_path / name]).to_pydict() == rows


@pytest.mark.parametrize(
    "name, content, rows",
    [
        ("a.json", NUMBERS, {"text": ["0.10", "true"], "mood": ["1e5", "-0"]}),
        ("a.json", '[{"text": "a", "mood": 1},\n {"mood": 2, "text": "b"}]', {"text": ["a", "b"], "mood": ["1", "2"]}),
        ("a.json", json.dumps([{"text": "a"}, {"text": "b"}], indent=4), {"text": ["a", "b"]}),
        (
            "a.jsonl",
            json.dumps({"text": "a"}, indent=4) + "\n" + json.dumps({"text": "b"}, indent=4),
            {"text": ["a", "b"]},
        ),
        ("a.json", json.dumps({"version": "1", "data": [{"text": "a"}]}), {"text": ["a"]}),
        ("a.json", '{"text": "a"}\n{"mood": "b"}', {"text": ["a", None], "mood": [None, "b"]}),
        ("a.json", '{"text": {"n": [1, 2.5]}}', {"text": [{"n": [1.0, 2.5]}]}),
        ("a.tsv", 'text\tmood\n"a\t1\nb, c\t2\n', {"text": ['"a', "b, c"], "mood": ["1", "2"]}),
        ("a.csv", "text\tmood\na, b\t1\n", {"text": ["a, b"], "mood": ["1"]}),
        ("a.csv", 'text;mood\r\n"a;b\nc";1\r\n', {"text": ["a;b\nc"], "mood": ["1"]}),
        ("a.tab", "text\tmood\nfilm 1\tbad\nfilm 2\tgood\n", {"text": ["film 1", "film 2"], "mood": ["bad", "good"]}),
        ("a.tab", "text\tmood\nstring\td\nmeta\tclass\nfilm 1\tbad\n", {"text": ["film 1"], "mood": ["bad"]}),
        ("a.tab", "text\tmood\nstring\td\nmeta\tclass\n", {"text": [], "mood": []}),
        ("a.tsv", 'text\tmood\n"a"\t1\nb "c"\t2\n', {"text": ['"a"', 'b "c"'], "mood": ["1", "2"]}),
        ("a.tsv", 'text\tmood\n"a ""b"""\t1\n"c\td\ne"\t2\n', {"text": ['a "b"', "c\td\ne"], "mood": ["1", "2"]}),
        ("a.TSV", "text\tmood\r0001\t1\r", {"text": ["0001"], "mood": ["1"]}),
        ("a.csv", "\ufefftext\na\n", {"text": ["a"]}),
        ("a.csv", "\n\r\ntext,mood\n0001,1", {"text": ["0001"], "mood": ["1"]}),
        ("a.csv", "sep=;\ntext;mood\na,b,c;0001\n", {"text": ["a,b,c"], "mood": ["0001"]}),
        ("a.csv", '"text, all of it";mood\n0001;1\n', {"text, all of it": ["0001"], "mood": ["1"]}),
        ("a.txt", "text\tmood\n0001\t1\n", {"text": ["0001"], "mood": ["1"]}),
        ("a.csv", "text,mood", {"text": [], "mood": []}),
        ("a.csv", "\n", {}),
        ("a.ndjson", "", {}),
        ("a.json", '{"version": "1", "data": []}', {}),
        (
            "a.json",
            '{"text": "a", "x": "1"}{"text": "b", "x": {"y": 1}}',
            {"text": ["a", "b"], "x": ["1", '{"y": 1}']},
        ),
        ("a.json", '{"a": "b", "x": [9999999999999999999999]}', {"a": ["b"], "x": ["[9999999999999999999999]"]}),
        ("a.csv", ",text\n0,a\n", {"": ["0"], "text": ["a"]}),  # an index that pandas wrote
    ],
)
def test_files_as_they_come(tmp_path, name, content, rows):
    (tmp_path / name).write_bytes(content.encode())
    assert read_table([tmp_path / name]).to_pydict() == rows


@pytest.mark.parametrize("column", ['["a", "b"]', '{"y": 1}', "[1, 0.5]"])
@pytest.mark.parametrize("other", ['{"text": "c"}', ""])
def test_text_beside_lists_or_objects_is_no_text(tmp_path, column, other):
    (tmp_path / "1.jsonl").write_text(other)
    (tmp_path / "2.jsonl").write_text(f'{{"text": "Zürich"}}\n{{"text": {column}}}')
    table = read_table([tmp_path / "1.jsonl", tmp_path / "2.jsonl"])
    assert table["text"].to_pylist()[-2] == "Zürich"
    with pytest.raises(UserError, match="'text' must be text, and some rows have a list or an object"):
        as_text(table, "text", "rows")


def test_files_of_one_split_have_the_same_types(tmp_path):
    for i, text in enumerate(("a", 1)):
        pq.write_table(pa.table({"text": [text]}), tmp_path / f"{i}.parquet")
    with pytest.raises(UserError, match=r"0\.parquet and the files beside it have columns of different types"):
        read_table(sorted(tmp_path.glob("*.parquet")))


def test_an_error_of_the_disk_is_one_line(tmp_path):
    (tmp_path / "a.csv").symlink_to("/proc/self/mem")  # no process may read its address 0
    with pytest.raises(UserError, match=r"a\.csv: not readable as CSV \(input/output error\)"):
        read_table([tmp_path / "a.csv"])


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "latin-1"])
def test_another_encoding_is_read_if_it_is_named(tmp_path, name, encoding):
    content = "tëxt\nraté\n" if name == "a.csv" else json.dumps({"tëxt": "raté"}, ensure_ascii=False)
    (tmp_path / name).write_bytes(content.encode(encoding))
    assert read_table([tmp_path / name], encoding).to_pydict() == {"tëxt": ["raté"]}
    if encoding != "utf-16":
        with pytest.raises(UserError, match="isn't utf-8"):
            read_table([tmp_path / name])


@pytest.mark.parametrize("given", ["utf-8", "UTF-8", "cp1252"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_which_utf_it_is(tmp_path, encoding, given):
    (tmp_path / "a.csv").write_bytes("tëxt,mood\n0001,ö\n".encode(encoding))
    assert read_table([tmp_path / "a.csv"], given).to_pydict() == {"tëxt": ["0001"], "mood": ["ö"]}


def test_parquet_is_known_by_its_content(tmp_path):
    pq.write_table(pa.table(ROWS), tmp_path / "rows.csv")
    assert read_table([tmp_path / "rows.csv"]).to_pydict() == ROWS
