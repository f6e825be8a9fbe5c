"""Leakage between splits, and texts of other data sets."""

import csv
import unicodedata
from itertools import combinations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adalora.errors import UserError
from tasks.data import load_data

COLUMNS = ("text", "headline", "url")


def written(folder, split, rows):
    with (folder / f"{split}.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([COLUMNS, *rows])


@pytest.fixture
def news(tmp_path):
    """Invented articles, in quoted tab-separated files, and English ones."""
    folder = tmp_path / "news"
    folder.mkdir()
    rain = 'It rained.\nIt "poured".'
    written(folder, "train", [(rain, "Rain", "a"), ("Sun.", "Sun", "b"), ("Wind.", "RAIN", "c"), ("Fog.", "Fog", "d")])
    written(folder, "dev", [('it  RAINED. It "poured".', "Wet", "e"), ("Hail.", "Hail", "f"), ("Ice.", "", "g")])
    written(
        folder, "test", [("Snow.", "Snow", "f"), ("Sleet.", "sun", "h"), ("Dew.", "", "i"), ("Frost.", "Frost", "j")]
    )
    (tmp_path / "xsum").mkdir()
    pq.write_table(pa.table({"document": [f"English {i}." for i in range(250)]}), tmp_path / "xsum" / "test.parquet")
    return folder


def task(compose, folder, *options):
    return compose("task=igbo", f"task.data_dir={folder}", *options).task


def test_no_article_is_in_two_splits_or_twice_in_one(compose, news, tmp_path):
    data = load_data(task(compose, news), str(tmp_path))
    assert {name: table["text"].to_pylist() for name, table in data.tables.items() if name != "english"} == {
        "train": ['It rained.\nIt "poured".', "Sun.", "Fog."],
        "validation": ["Hail.", "Ice."],
        "test": ["Dew.", "Frost."],
    }
    assert data.notes == [
        "train: left out: 1 that repeat others",
        "validation: left out: 1 that are in train",
        "test: left out: 1 that are in validation",
        "test: left out: 1 that are in train",
    ]
    assert all(table.column_names == ["text"] for table in data.tables.values())


def test_english_is_the_first_rows_of_another_data_set(compose, news, tmp_path):
    data = load_data(task(compose, news), str(tmp_path))
    assert data.tables["english"]["text"].to_pylist() == [f"English {i}." for i in range(200)]
    given = task(compose, news, f"task.others.english.data_dir={tmp_path / 'xsum'}", "task.others.english.rows=3")
    assert load_data(given).tables["english"].num_rows == 3
    assert "english" not in load_data(task(compose, news, "~task.others.english")).tables
    with pytest.raises(UserError, match=r"task\.others\.english\.data_dir=FOLDER"):
        load_data(task(compose, news))


def test_a_split_that_is_wholly_in_another_is_refused(compose, news, tmp_path):
    (news / "dev.tsv").write_text((news / "train.tsv").read_text())
    with pytest.raises(UserError, match="every row of validation is in another split"):
        load_data(task(compose, news), str(tmp_path))


def test_names_of_metrics(compose):
    igbo = compose("task=igbo").task
    names = [igbo.metric_name("bits_per_byte", split) for split in ("validation", "test", "english")]
    assert names == ["bits_per_byte", "bits_per_byte_test", "bits_per_byte_english"]
    chosen = compose("task=igbo", "task.eval_split=test").task
    assert chosen.metric_name("bits_per_byte", "english") == "bits_per_byte_english"


def test_the_split_of_the_headline_is_scored_in_every_evaluation(compose):
    with pytest.raises(UserError, match="final_splits"):
        compose("task=igbo", "task.final_splits=[validation]")


def test_masakhane_s_news_have_no_overlap(compose, shared_data):
    """Counted anew from the files: before, 23 articles of test and 20 of validation are in train."""
    igbo = shared_data("lm/masakhane-news/ibo")

    def rows(split):
        with (igbo / f"{split}.tsv").open(newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))

    def key(value):
        return " ".join(unicodedata.normalize("NFKC", value).casefold().split())

    raw = {split: rows(split) for split in ("train", "dev", "test")}
    assert [len(raw[split]) for split in raw] == [1356, 194, 390]
    texts = {split: {row["text"] for row in found} for split, found in raw.items()}
    assert [sum(row["text"] in texts["train"] for row in raw[split]) for split in ("dev", "test")] == [20, 23]
    data = load_data(task(compose, igbo, "~task.others.english"))
    by_text = {key(row["text"]): row for found in raw.values() for row in found}
    kept = {split: [key(text) for text in table["text"].to_pylist()] for split, table in data.tables.items()}
    for found in kept.values():
        assert len(set(found)) == len(found)
    for one, other in combinations(kept.values(), 2):
        for column in COLUMNS:
            values = [{key(by_text[text][column]) for text in side} - {""} for side in (one, other)]
            assert not values[0] & values[1]
    assert data.rows == {"train": 1295, "validation": 174, "test": 361}


def test_a_txt_file_is_one_article(compose, tmp_path):
    for name, content in {"a": 'One,two\n\n"three', "b": "Four.", "c": " \n"}.items():
        (tmp_path / f"{name}.txt").write_text(content)
    files = f"task.train_file='{tmp_path}/*.txt'"
    data = load_data(compose("task=text", files, "task.held_out=1").task)
    assert data.tables["train"]["text"].to_pylist() == ["Four."]
    assert data.tables["validation"]["text"].to_pylist() == ['One,two\n\n"three']
    assert "train: left out: 1 with an empty text" in data.notes
    (tmp_path / "train.txt").write_text("Five.")
    (tmp_path / "validation.txt").write_text("Six.")
    assert load_data(compose("task=text", f"task.data_dir={tmp_path}").task).rows == {"train": 1, "validation": 1}
