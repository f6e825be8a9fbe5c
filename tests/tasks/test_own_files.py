"""A task on the user's own files, from the template conf/task/_files.yaml: formats, labels, mistakes."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adalora.errors import UserError
from tasks.data import load_data
from tasks.formats import read_table

ROWS = {"text": ['one, "two"', "three\nfour", "", "None", "NA", "naïve"], "mood": ["bad", "good"] * 3}


@pytest.fixture
def own(compose, tmp_path):
    """`own(labels, rows, ...)`: the task, its training rows in a CSV file and its evaluation rows in another."""

    def make(labels, rows=ROWS, write=None, **options):
        for name in ("train.csv", "validation.csv"):
            (write or as_csv)(tmp_path / name, rows)
        metrics = ["accuracy"] if labels else ["pearson"]
        given = {
            "name": "mood", "title": "Mood", "text": ["text"], "label": "mood", "labels": labels, "metrics": metrics,
            "headline": metrics[0], "data_dir": str(tmp_path), **options,
        }  # fmt: skip
        values = [f"task.{key}={'null' if value is None else json.dumps(value)}" for key, value in given.items()]
        return compose("task=_files", *values).task

    return make


def as_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))


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
    "labels, values, ids",
    [
        (["bad", "good"], ["good", "bad"], [1, 0]),
        (["bad", "good"], [1, 0], [1, 0]),  # numbers are the classes' places
        (["1", "2", "3"], [3, 1], [2, 0]),  # names that are numbers are names
        (["-1", "1"], [1, -1], [1, 0]),
        (["true", "false"], ["true", "false"], [0, 1]),  # Arrow reads booleans
        (["False", "True"], ["True", "False"], [1, 0]),
        (None, [0.5, -2], [0.5, -2]),
    ],
)
def test_labels_are_text_or_numbers(own, labels, values, ids):
    data = load_data(own(labels, {"text": ["a", "b"], "mood": values}))
    assert data.tables["train"]["label"].to_pylist() == ids
    assert data.subset is None  # no official counts are known
    assert data.origin.startswith("folder ")


def test_data_root_has_a_folder_for_a_task_of_one_s_own_too(own, tmp_path):
    task = own(["bad", "good"], data_dir=None, name=tmp_path.name)
    assert load_data(task, str(tmp_path.parent)).rows == {"train": 6, "validation": 6}


def test_a_sample_of_rows_is_a_subset(own):
    assert load_data(own(["bad", "good"], eval_rows=2)).subset is True


@pytest.mark.parametrize(
    "labels, rows, options, message",
    [
        (["1", "2"], {"text": ["a"], "mood": [3]}, {}, r"train\.csv: unknown mood 3, allowed are 1, 2$"),
        (["bad", "good"], {"text": ["a"], "mood": ["sad"]}, {}, r"unknown mood sad, allowed are bad, good$"),
        (
            ["bad", "good"],
            {"words": ["a"], "mood": ["bad"]},
            {},
            r"train\.csv has no column text \(it has words, mood\)",
        ),
        (
            ["bad", "good"],
            ROWS,
            {"data_dir": None},
            r"task=mood has no data: give task\.train_file and task\.eval_file",
        ),
        (["bad", "good"], ROWS, {"eval_file": "x.xlsx"}, r"x\.xlsx: no such file$"),
    ],
)
def test_what_is_wrong_is_named(own, labels, rows, options, message):
    with pytest.raises(UserError, match=message):
        load_data(own(labels, rows, **options))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", b"text,mood\none,two,three\n", r"a\.csv: not readable as CSV \(CSV parse error: Expected 2 columns"),
        ("a.csv", b"", r"a\.csv: not readable as CSV \(Empty CSV file\)"),
        ("a.csv", b"text\n\xff\xfe\xfa\n", None),  # not UTF-8: the column's check names it
        ("a.jsonl", b'{"text": ', r"a\.jsonl: not readable as JSON lines \("),
        ("a.xlsx", b"PK", r"a\.xlsx: unknown file type, names may end in \.parquet, \.csv, \.jsonl, \.json$"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    if message is None:
        assert pa.types.is_binary(read_table([tmp_path / name])["text"].type)
        return
    with pytest.raises(UserError, match=message):
        read_table([tmp_path / name])
