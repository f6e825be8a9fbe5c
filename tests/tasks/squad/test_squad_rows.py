"""Question-answering rows that are errors, skipped, or only reported."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adalora.errors import UserError
from tasks.formats import read_table
from tasks.squad.rows import SCHEMA, check_rows


def row(name="q1", question="Who?", context="Ada wrote it.", text=("Ada",), start=(0,)):
    answers = {"text": list(text), "answer_start": list(start)}
    return {"id": name, "question": question, "context": context, "answers": answers, "title": "x"}


def check(*rows, unanswerable=False, training=True):
    return check_rows(pa.Table.from_pylist(list(rows)), "train.parquet", unanswerable, training)


def test_good_rows_pass_unchanged():
    table, notes = check(row(), row("q2", text=("wrote", "it"), start=(4, 10)))
    assert table.schema == SCHEMA
    assert table["answers"].to_pylist()[1] == {"text": ["wrote", "it"], "answer_start": [4, 10]}
    assert notes == []


def test_other_widths_of_the_same_types_pass():
    raw = pa.Table.from_pylist([row()])
    raw = raw.set_column(1, "question", raw["question"].cast(pa.large_string()))
    assert check_rows(raw, "x", False, True)[0].schema == SCHEMA


@pytest.mark.parametrize("count", [1, 3])
def test_chunks_become_one(count):
    raw = pa.concat_tables([pa.Table.from_pylist([row(f"q{i}")]) for i in range(count)])
    assert check_rows(raw, "x", False, True)[0]["id"].to_pylist() == [f"q{i}" for i in range(count)]


@pytest.mark.parametrize("column", SCHEMA.names)
def test_a_missing_column_is_named(column):
    raw = pa.Table.from_pylist([row()]).drop_columns(column)
    with pytest.raises(UserError, match=rf"^train.parquet has no column '{column}' \(it has .*title'\).*id, question"):
        check_rows(raw, "train.parquet", False, True)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"answers": "Ada"}, r"'answers' must be struct<text.*it is string"),
        ({"answers": [{"text": "Ada", "start": 0}]}, r"'answers' must be struct<text.*it is list"),
        ({"answers": {"text": ["Ada"], "answer_start": ["x"]}}, r"'answers' must be struct"),
        ({"context": b"\xff"}, r"'context' is not UTF-8 text"),
    ],
)
def test_other_types_are_refused(change, message):
    with pytest.raises(UserError, match=f"^train.parquet: column {message}") as refusal:
        check(row() | change)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"context": None},
        {"answers": None},
        {"answers": {"text": None, "answer_start": [0]}},
        {"answers": {"text": ["Ada"], "answer_start": [None]}},
    ],
)
def test_gaps_are_refused(change):
    message = rf"^train.parquet: 1 rows have a gap in column '{next(iter(change))}' \(first: row 1 from 0\): fill it"
    with pytest.raises(UserError, match=message):
        check(row("q0"), row() | change, row("q2"))


def test_no_rows_are_refused():
    with pytest.raises(UserError, match="train.parquet has no rows"):
        check_rows(pa.Table.from_pylist([row()]).slice(0, 0), "train.parquet", False, True)


def test_an_id_that_occurs_twice_is_refused():
    with pytest.raises(UserError, match="the id q1 occurs 2 times"):
        check(row(), row("q2"), row(), unanswerable=True, training=False)


@pytest.mark.parametrize(
    "text, start, message",
    [
        (("wrote",), (3,), r"row q2: the answer 'wrote' isn't at answer_start 3 .*\(there: ' wrot', it is at 4\)"),
        (("Bob",), (0,), r"row q2: the answer 'Bob' isn't at answer_start 0 .*\(there: 'Ada'\)"),
        (("it.",), (-3,), r"row q2: the answer 'it.' isn't at answer_start -3"),
        (("Ada", "it"), (0, 99), r"row q2: the answer 'it' isn't at answer_start 99"),
        (("Ada", "it"), (0,), r"row q2: 2 answer texts and 1 answer_start"),
        ((" ",), (3,), r"row q2: an answer without text"),
        (("",), (0,), r"row q2: an answer without text"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_answers_that_are_not_in_their_place_are_refused(text, start, message, training):
    with pytest.raises(UserError, match=f"^train.parquet: {message}"):
        check(row(), row("q2", text=text, start=start), training=training)


def test_offsets_count_characters():
    context = "Zoë 🚀 flew"
    assert check(row(context=context, text=("flew",), start=(6,)))[1] == []
    with pytest.raises(UserError, match="it is at 6"):  # in bytes it would be 10
        check(row(context=context, text=("flew",), start=(10,)))


@pytest.mark.parametrize("training", [True, False])
def test_v1_refuses_questions_without_answers(training):
    with pytest.raises(UserError, match=r"row q2 has no answer.*task=squad_v2"):
        check(row(), row("q2", text=(), start=()), training=training)


def test_v2_takes_questions_without_answers():
    table, notes = check(row(), row("q2", text=(), start=()), unanswerable=True)
    assert (table.num_rows, notes) == (2, [])


def test_training_leaves_blank_rows_out_and_says_so():
    blanks = [row("q2", question=" \n"), row("q3", context=" ", text=(), start=()), row("q4", question="")]
    table, notes = check(row(), *blanks, unanswerable=True)
    assert table["id"].to_pylist() == ["q1"]
    assert notes == [
        "train.parquet: 2 rows with a blank question (first: q2): left out",
        "train.parquet: 1 rows with a blank context (first: q3): left out",
    ]


def test_evaluation_keeps_blank_rows_and_says_so():
    table, notes = check(row(), row("q2", question=" "), training=False)
    assert table["id"].to_pylist() == ["q1", "q2"]
    assert notes == ["train.parquet: 1 rows with a blank question (first: q2): they stay in the scores"]


def test_nothing_but_blank_rows_are_refused():
    with pytest.raises(UserError, match="every row has a blank question or context"):
        check(row(question=""))


@pytest.mark.parametrize("file", ["squad/train", "squad/validation", "squad_v2/validation"])
def test_real_rows_pass(shared_data, file):
    raw = pq.read_table(shared_data(f"{file}.parquet"))
    table, notes = check_rows(raw, file, unanswerable="v2" in file, training=True)
    assert (table.num_rows, notes) == (raw.num_rows, [])


def test_squad_s_own_files_are_read(tmp_path):
    """Articles, paragraphs, questions, with answers as objects."""
    answers = [{"text": "Ada", "answer_start": 0}, {"text": "it", "answer_start": 10}]
    questions = [{"id": "q1", "question": "Who?", "answers": answers}, {"id": "q2", "question": "Why?", "answers": []}]
    article = {"title": "T", "paragraphs": [{"context": "Ada wrote it.", "qas": questions}]}
    (tmp_path / "dev.json").write_text(json.dumps({"version": "v2.0", "data": [article]}))
    table, _ = check_rows(read_table([tmp_path / "dev.json"]), "dev.json", True, False)
    assert table["id"].to_pylist() == ["q1", "q2"]
    assert table["context"].to_pylist() == ["Ada wrote it."] * 2
    assert table["answers"].to_pylist() == [
        {"text": ["Ada", "it"], "answer_start": [0, 10]}, {"text": [], "answer_start": []},
    ]  # fmt: skip
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": [{"qas": questions}]}]}))
    with pytest.raises(UserError, match="context"):
        check_rows(read_table([tmp_path / "dev.json"]), "dev.json", True, False)


def test_answers_may_be_objects():
    table = pa.Table.from_pylist([row() | {"answers": [{"text": "Ada", "answer_start": 0}]}])
    assert check_rows(table, "a", False, True)[0]["answers"].to_pylist() == [{"text": ["Ada"], "answer_start": [0]}]


def test_the_official_files_may_hold_more_and_ids_may_be_numbers(tmp_path):
    """Keys that aren't used may have any type, and a question without an answer need not have the key."""
    rows = [
        {"id": 1, "question": 2024, "answers": [{"text": "Ada", "answer_start": 0}], "meta": 1},
        {"id": "x", "question": "Who?", "meta": {"a": 2**70}},
    ]
    articles = [
        {"title": 1, "paragraphs": [{"context": "Ada wrote it.", "qas": rows}]},
        {"title": {}, "paragraphs": []},
    ]
    (tmp_path / "dev.json").write_text(json.dumps({"data": articles}))
    table, _ = check_rows(read_table([tmp_path / "dev.json"]), "dev", True, False)
    assert table["id"].to_pylist() == ["1", "x"]
    assert table["question"].to_pylist() == ["2024", "Who?"]
    assert table["answers"].to_pylist() == [{"text": ["Ada"], "answer_start": [0]}, {"text": [], "answer_start": []}]
