"""A table's digest depends on its rows, not on how they are stored."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.digest import digest

ROWS = [
    {"id": "a", "text": "ab", "label": 1, "score": 0.5, "answers": {"text": ["x", "yé"], "answer_start": [0, 3]}},
    {"id": "b", "text": "", "label": 0, "score": -2.0, "answers": {"text": [], "answer_start": []}},
    {"id": "c", "text": "c…", "label": 2, "score": 1e-9, "answers": {"text": ["z"], "answer_start": [7]}},
    {"id": "d", "text": None, "label": None, "score": None, "answers": None},
]
TABLE = pa.Table.from_pylist(ROWS)


def changed(row, **values):
    return pa.Table.from_pylist([r | values if i == row else r for i, r in enumerate(ROWS)], schema=TABLE.schema)


def test_it_is_the_same_however_the_rows_are_stored(tmp_path):
    pq.write_table(TABLE, tmp_path / "rows.parquet", row_group_size=1, compression="gzip")
    pieces = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 0), TABLE.slice(1, 3)])
    twice = pa.concat_tables([TABLE, TABLE])
    large = TABLE.cast(
        pa.schema([(f.name, pa.large_string() if pa.types.is_string(f.type) else f.type) for f in TABLE.schema])
    )
    assert pieces["text"].num_chunks == 3
    others = [
        pq.read_table(tmp_path / "rows.parquet"),
        pieces,
        twice.slice(4),
        twice.slice(2, 4).take([2, 3, 0, 1]),
        large,
    ]
    assert {digest(table) for table in others} == {digest(TABLE)}


@pytest.mark.parametrize(
    "other",
    [
        changed(0, text="a"), changed(1, text="b"), changed(3, text=""), changed(1, text=None), changed(0, label=0),
        changed(3, label=0), changed(2, score=2e-9), changed(3, score=0.0), changed(0, answers=ROWS[2]["answers"]),
        changed(0, answers={"text": ["xy", "é"], "answer_start": [0, 3]}), changed(3, answers=ROWS[1]["answers"]),
        changed(1, answers={"text": None, "answer_start": []}), TABLE.take([1, 0, 2, 3]), TABLE.slice(0, 3),
        TABLE.rename_columns(["id", "text", "label", "other", "answers"]), TABLE.drop_columns(["score"]),
    ],
)  # fmt: skip
def test_other_rows_have_another(other):
    assert digest(other) != digest(TABLE)


def test_a_letter_that_moves_to_the_next_row_counts():
    assert digest(pa.table({"t": ["ab", "c"]})) != digest(pa.table({"t": ["a", "bc"]}))
    assert digest(pa.table({"t": [["a"], ["b", "c"]]})) != digest(pa.table({"t": [["a", "b"], ["c"]]}))
