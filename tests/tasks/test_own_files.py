"""A task on the user's own files, from the template conf/task/_files.yaml: labels, splits, mistakes."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adalora.errors import UserError
from tasks.data import load_data
from tasks.discovery import create

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
        (["1", "2"], {"text": ["a"], "mood": [3]}, {}, r"train\.csv: unknown mood '3', allowed are '1', '2'$"),
        (["bad", "good"], {"text": ["a"], "mood": ["sad"]}, {}, r"unknown mood 'sad', allowed are 'bad', 'good'$"),
        (
            ["bad", "good"],
            {"words": ["a"], "mood": ["bad"]},
            {},
            r"train\.csv has no column 'text' \(it has 'words', 'mood'\)",
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


@pytest.mark.parametrize("name", ["utf-88", "hex", "rot13", "undefined"])
def test_an_encoding_that_there_is_not(own, name):
    with pytest.raises(UserError, match=rf"task\.encoding={name}: is no encoding of text"):
        own(["bad", "good"], encoding=name)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_shards_are_one_split(own, tmp_path, ending):
    task = own(["bad", "good"])
    for i in range(2):
        path = tmp_path / f"train-0000{i}-of-00002{ending}"
        as_csv(path, ROWS) if ending == ".csv" else pq.write_table(pa.table(ROWS), path)
    (tmp_path / "train.csv").unlink()
    assert load_data(task).rows == {"train": 12, "validation": 6}
    pattern = str(tmp_path / f"train-*{ending}")
    assert load_data(own(["bad", "good"], train_file=pattern, eval_file=pattern)).rows == {
        "train": 12,
        "validation": 12,
    }
    (tmp_path / "train.csv").unlink()
    (tmp_path / f"train-00000-of-00002{ending}").unlink()
    with pytest.raises(UserError, match=rf"of the files train-00001-of-00002{ending} and so on only 1 are there"):
        load_data(task)


STORED = {
    "a category": lambda values: pa.array(values).dictionary_encode(),
    "a view": lambda values: pa.array(values).cast(pa.string_view()),
    "large text": lambda values: pa.array(values, pa.large_string()),
}


@pytest.mark.parametrize("stored", STORED)
def test_text_and_labels_of_any_stored_type(own, tmp_path, stored):
    table = pa.table({"text": STORED[stored](["a", "b"]), "mood": STORED[stored](["good", "bad"])})
    pq.write_table(table, tmp_path / "rows.parquet")
    path = str(tmp_path / "rows.parquet")
    found = load_data(own(["bad", "good"], train_file=path, eval_file=path)).tables["train"]
    assert found.to_pydict() == {"text_1": ["a", "b"], "label": [1, 0]}


@pytest.mark.parametrize(
    "labels, stored, ids",
    [
        (["1", "2", "3"], ["1.0", "3.0"], [0, 2]),
        (["1.0", "2.0"], pa.array([2, 1]), [1, 0]),
        (["1", "2"], pa.array([2.0, 1.0]), [1, 0]),
        (["False", "True"], ["no", "yes"], [0, 1]),  # labels: [no, yes] in YAML
        (["False", "maybe", "True"], ["Yes", "maybe", "NO"], [2, 1, 0]),
        (["no", "yes"], pa.array([True, False]), [1, 0]),
        (["off", "no"], ["no", "off"], [1, 0]),  # two names of one truth value stay apart
        (["bad", "good"], ["1", "0"], [1, 0]),  # class ids, as text
        (["bad", "good"], pa.array([1.0, 0.0]), [1, 0]),
    ],
)
def test_labels_are_what_they_mean(own, tmp_path, labels, stored, ids):
    table = pa.table({"text": ["a"] * len(stored), "mood": stored})
    pq.write_table(table, tmp_path / "rows.parquet")
    path = str(tmp_path / "rows.parquet")
    assert load_data(own(labels, train_file=path, eval_file=path)).tables["train"]["label"].to_pylist() == ids


@pytest.mark.parametrize(
    "labels, mood, message",
    [
        (["bad", "good"], " bad", "unknown mood ' bad', allowed are 'bad', 'good'"),
        (["bad", "good"], "", "1 rows have no mood"),
        (["1", "2"], "two", "unknown mood 'two', allowed are '1', '2'"),
        (["bad", "good"], "2", r"mood 2 in 1 rows is out of range 0 to 1"),
        (["10", "x"], "1_0", "unknown mood '1_0'"),
        *((None, mood, f"mood must be a finite number, and '{mood}' is none") for mood in ("high", "1_0", "inf", "٣")),
    ],
)
def test_a_wrong_label_is_seen(own, labels, mood, message):
    with pytest.raises(UserError, match=message):
        load_data(own(labels, {"text": ["a"], "mood": [mood]}))


@pytest.mark.parametrize(
    "labels, metric, message",
    [
        (["a", "b", "c"], "f1", r"classification of 3 classes, which has no f1.*macro_f1"),
        (["a"], "accuracy", "needs two labels or more"),
        (["a", "b", "a"], "accuracy", "task.labels has a twice"),
        ([], "accuracy", "needs two labels or more"),
    ],
)
def test_a_metric_fits_its_labels(own, labels, metric, message):
    with pytest.raises(UserError, match=message):
        own(labels, metrics=[metric], headline=metric)


@pytest.mark.parametrize(
    "labels, options, message",
    [
        (None, {"label_range": [5]}, r"label_range=\[5.*\]: give the lowest and the highest number"),
        (None, {"label_range": [5, 0]}, "give the lowest and the highest number"),
        (["a", "b"], {"label_range": [0, 5]}, "label_range is for numbers"),
        (["a", "b"], {"text": []}, "a row has one text or two"),
        (["a", "b"], {"text": ["x", "y", "z"]}, "a row has one text or two"),
        (["a", "b"], {"text": ["text", "mood"]}, "a label is no input"),
        (["a", "b"], {"metrics": []}, "give one metric or more"),
    ],
)
def test_options_that_do_not_fit_are_refused(own, labels, options, message):
    with pytest.raises(UserError, match=message):
        own(labels, **options)


def test_a_class_without_rows_and_blank_texts_are_noted(own):
    data = load_data(own(["bad", "good", "mixed", "none"]))
    assert data.notes == [
        f"{split}: {line}"
        for split in ("train", "validation")
        for line in ("1 rows have a blank text", "no row is 'mixed' or 'none'")
    ]


def test_numbers_are_read_as_text_or_number_whatever_they_are_stored_as(own, tmp_path):
    table = pa.table({"text": pa.array([0.1, 2.0], pa.float32()), "mood": [" 1.5", "2e0 "]})
    path = str(tmp_path / "rows.parquet")
    pq.write_table(table.replace_schema_metadata({"huggingface": '{"info": null}'}), path)
    found = load_data(own(None, train_file=path, eval_file=path)).tables["train"]
    assert found.to_pydict() == {"text_1": ["0.1", "2.0"], "label": [1.5, 2.0]}
    pq.write_table(pa.table({"text": [0.1, float("nan")], "mood": [1, 2]}), path)
    with pytest.raises(UserError, match="1 rows have a gap in column 'text'"):
        load_data(own(None, train_file=path, eval_file=path))


def test_shards_may_differ_in_what_the_task_does_not_need(own, tmp_path):
    for i, rows in enumerate(({"text": ["a"], "mood": ["bad"]}, {"mood": ["good"], "extra": [1], "text": ["b"]})):
        pq.write_table(pa.table(rows), tmp_path / f"part{i}.parquet")
    task = own(["bad", "good"], train_file=f"{tmp_path}/part?.parquet", eval_file=f"{tmp_path}/part[0].parquet")
    data = load_data(task)
    assert data.tables["train"].to_pydict() == {"text_1": ["a", "b"], "label": [0, 1]}
    assert data.rows == {"train": 2, "validation": 1}


def test_a_folder_for_a_file_says_which_option_takes_it(own, tmp_path):
    with pytest.raises(UserError, match=rf"{tmp_path} is a folder: give task\.data_dir="):
        load_data(own(["bad", "good"], train_file=str(tmp_path)))


def test_one_split_in_two_files_is_refused(own, tmp_path):
    task = own(["bad", "good"])
    pq.write_table(pa.table(ROWS), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet and train\.csv"):
        load_data(task)
    with pytest.raises(UserError, match=r"task\.eval_file"):
        load_data(own(["bad", "good"], train_file=str(tmp_path / "train.csv"), data_dir=None))


def test_what_is_cut_is_counted(own, tiny_model):
    """The row that is too long, and the pair."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = {"text": ["a film", "a very very very good film", "the plot"], "mood": ["bad", "good", "bad"]}
    for text, limit, found in (
        (["text"], 6, ["1 of 3 texts (33.3%) are truncated to task.max_length=6 tokens"]),
        (["text"], 8, []),
        (["text", "text"], 8, ["1 of 3 texts (33.3%) are truncated to task.max_length=8 tokens"]),
    ):
        task = own(["bad", "good"], rows, text=text, max_length=limit)
        data, kind = load_data(task), create(task)
        table = data.tables["train"]
        features = kind.features(table, tokenizer, True)
        assert kind.notes(table, features) == found
        assert max(features["length"]) <= limit
