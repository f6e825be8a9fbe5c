"""Answers against a plain loop on random logits, and against cases worked out by hand."""

import json
import random

import datasets
import numpy as np
import pyarrow as pa
import pytest

from adalora.errors import UserError
from tasks.squad.answers import find_answers, write_predictions
from tasks.squad.rows import SCHEMA
from tasks.squad.scores import scores
from tasks.squad.windows import windows
from tests.tasks.squad.reference import n_best_answers, reference, written


def by_hand(*contexts, lengths=None):
    """Rows of these contexts, and one window [CLS] ? [SEP] words [SEP] a row; `lengths` cuts more out of its words."""
    names = [f"q{i}" for i in range(len(contexts))]
    answers = [{"text": [], "answer_start": []}] * len(names)
    rows = pa.table(
        {"id": names, "question": ["?"] * len(names), "context": list(contexts), "answers": answers}, schema=SCHEMA
    )
    columns = {name: [] for name in ("length", "row", "context", "char_start", "char_end")}
    for row, context in enumerate(contexts):
        words = context.split(" ")
        ends = np.cumsum([len(word) + 1 for word in words]) - 1
        starts = ends - [len(word) for word in words]
        for part in (lengths or {}).get(row, [slice(None)]):
            columns["length"].append(len(starts[part]) + 4)
            columns["row"].append(row)
            columns["context"].append(3)
            columns["char_start"].append(starts[part].tolist())
            columns["char_end"].append(ends[part].tolist())
    return datasets.Dataset.from_dict(columns), rows


def logits(*windows):
    return [np.array(window, dtype=np.float32) for window in windows]


def random_logits(cut, seed, ties):
    """Normal, or whole numbers below 12, so that many are equal; padded behind each window's length."""
    rng = np.random.default_rng(seed)
    draw = (lambda n: rng.integers(0, 12, n)) if ties else rng.standard_normal
    return [np.array([*draw(n), 99, 99], dtype=np.float32) for n in cut["length"]]


@pytest.fixture(scope="module")
def cut(tokenizers):
    """Windows of 64 tokens, several a row."""
    rows = written(16, random.Random(3))
    return windows(rows, tokenizers["sentencepiece"], max_length=64, stride=16), rows


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n_best, longest", [(20, 30), (5, 3), (40, 8)])
def test_the_loop_says_the_same(cut, ties, n_best, longest):
    cut, rows = cut
    assert max(np.bincount(cut["row"])) > 3
    starts, ends = random_logits(cut, 0, ties), random_logits(cut, 1, ties)
    texts, odds = reference(cut, rows, starts, ends, n_best, longest)
    answers = find_answers(cut, rows, starts, ends, n_best, longest)
    assert dict(zip(answers.ids, answers.text, strict=True)) == {
        name: (found or [""])[0] for name, found in texts.items()
    }
    assert dict(zip(answers.ids, answers.null_odds.tolist(), strict=True)) == odds
    listed = n_best_answers(answers, rows)
    assert {name: [span["text"] for span in spans] for name, spans in listed.items()} == texts
    assert len({text for found in texts.values() for text in found}) > 10


def test_v2_predictions_follow_the_loops_null_odds(cut):
    cut, rows = cut
    starts, ends = random_logits(cut, 2, False), random_logits(cut, 3, False)
    texts, odds = reference(cut, rows, starts, ends)
    threshold = float(np.median(list(odds.values())))
    found = find_answers(cut, rows, starts, ends).predictions(threshold)
    assert found == ["" if odds[name] > threshold else (texts[name] or [""])[0] for name in odds]
    assert 4 < found.count("") < 12


def test_chunks_of_windows_change_nothing(cut, monkeypatch):
    cut, rows = cut
    starts, ends = random_logits(cut, 4, True), random_logits(cut, 5, True)
    whole = find_answers(cut, rows, starts, ends)
    monkeypatch.setattr("tasks.squad.answers.CHUNK", 7)
    parts = find_answers(cut, rows, starts, ends)
    assert parts.text == whole.text
    np.testing.assert_array_equal(parts.null_odds, whole.null_odds)
    for one, other in zip(parts.spans, whole.spans, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_padded_matrix_serves_as_well(cut):
    cut, rows = cut
    starts, ends = random_logits(cut, 6, False), random_logits(cut, 7, False)
    longest = max(map(len, starts))
    square = [
        np.stack([np.pad(line, (0, longest - len(line)), constant_values=50) for line in x]) for x in (starts, ends)
    ]
    assert find_answers(cut, rows, *square).text == find_answers(cut, rows, starts, ends).text


def test_windows_may_come_in_any_order(cut):
    """Without ties; as evaluation has them by length."""
    cut, rows = cut
    starts, ends = random_logits(cut, 8, False), random_logits(cut, 9, False)
    order = np.argsort(cut["length"], kind="stable")
    answers = find_answers(cut.select(order), rows, [starts[i] for i in order], [ends[i] for i in order])
    straight = find_answers(cut, rows, starts, ends)
    assert answers.text == straight.text
    np.testing.assert_array_equal(answers.null_odds, straight.null_odds)


def test_the_best_span():
    cut, rows = by_hand("red cow on grass")
    starts = logits([9, 9, 9, 1, 3, 0, 0, 9])  # [CLS], ? and [SEP] are no answers
    ends = logits([-8, 9, 9, 3, 0, 0, 2, 9])
    answers = find_answers(cut, rows, starts, ends)
    assert answers.text == ["cow on grass"]  # 3 + 2, before red 1 + 3
    assert answers.score.tolist() == [5.0]
    assert answers.null_score.tolist() == [9.0 - 8.0]
    assert answers.null_odds.tolist() == [-4.0]


def test_turned_and_long_spans_do_not_count():
    cut, rows = by_hand("a b c d")
    starts, ends = logits([0, 0, 0, 3, 0, 9, 0, 0]), logits([0, 0, 0, 0, 9, 0, 1, 0])
    assert find_answers(cut, rows, starts, ends).text == ["a b"]  # c to b would have 18; 12, before c to d with 10
    assert find_answers(cut, rows, starts, ends, max_answer_length=2).text == ["a b"]
    assert find_answers(cut, rows, starts, ends, max_answer_length=1).text == ["b"]  # 9, as c, which is later


def test_only_the_best_positions_pair():
    cut, rows = by_hand("a b c d")
    starts, ends = logits([9, 8, 0, 2, 0, 0, 1, 0]), logits([9, 8, 0, 0, 0, 0, 5, 0])
    assert find_answers(cut, rows, starts, ends, n_best=3).text == ["a b c d"]
    assert find_answers(cut, rows, starts, ends, n_best=2).text == [""]  # [CLS] and ? take both places


def test_of_equal_spans_the_first_window_start_and_end_win():
    cut, rows = by_hand("a b c d", lengths={0: [slice(0, 3), slice(1, 4)]})
    flat = logits([0] * 7, [0] * 7)
    listed = n_best_answers(find_answers(cut, rows, flat, flat, n_best=7), rows)["q0"]
    assert [span["text"] for span in listed] == ["a", "a b", "a b c", "b", "b c", "c", "b"]
    assert listed[1] == {"text": "a b", "score": 0.0, "start": 0, "end": 3}


def test_a_question_answers_from_its_best_window_and_declines_only_in_all():
    cut, rows = by_hand("a b c d", "x y", lengths={0: [slice(0, 2), slice(1, 4)]})
    starts = logits([5, 0, 0, 1, 0, 0], [2, 0, 0, 0, 4, 0, 0], [3, 0, 0, 1, 0, 0])
    ends = logits([5, 0, 0, 1, 0, 0], [2, 0, 0, 0, 1, 0, 0], [3, 0, 0, 1, 0, 0])
    answers = find_answers(cut, rows, starts, ends)
    assert answers.text == ["c", "x"]
    assert answers.score.tolist() == [5, 2]
    assert answers.null_score.tolist() == [4, 6]  # the second window's 4, not the first's 10
    assert answers.predictions(None) == ["c", "x"]
    assert answers.predictions(0.0) == ["c", ""]
    assert answers.predictions(4.0) == ["c", "x"]  # the odds must be above the threshold
    assert answers.predictions(-2.0) == ["", ""]


def test_rows_without_windows_or_candidates_get_no_text():
    cut, rows = by_hand("a b", "c", "d", lengths={1: []})
    cut = cut.map(lambda window: {"char_end": window["char_start"]} if window["row"] == 2 else {})  # of blanks only
    flat = logits([1] * 6, [1] * 5)
    answers = find_answers(cut, rows, flat, flat)
    assert answers.text == ["a", "", ""]
    assert answers.null_odds.tolist() == [0, 0, 2]
    assert answers.predictions(0.0) == ["a", "", ""]
    assert n_best_answers(answers, rows)["q1"] == []


def test_a_context_without_tokens():
    cut, rows = by_hand("a b")
    cut = datasets.Dataset.from_dict(
        {"length": [3, 6], "row": [0, 1], "context": [0, 3], "char_start": [[], [0, 2]], "char_end": [[], [1, 3]]}
    )
    rows = pa.concat_tables([rows, rows]).set_column(0, "id", pa.array(["q0", "q1"]))
    flat = logits([1] * 3, [1] * 6)
    assert find_answers(cut, rows, flat, flat).text == ["", "a"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(value):
    cut, rows = by_hand("a b")
    good, bad = logits([0] * 6), logits([0, 0, 0, value, 0, 0])
    with pytest.raises(UserError, match="aren't finite"):
        find_answers(cut, rows, good, bad)
    padding = logits([0, 0, 0, 0, 0, 0, value])
    assert find_answers(cut, rows, padding, padding).text == ["a"]


def test_characters_behind_wide_ones():
    cut, rows = by_hand("🚀 Zoë “flew” away")
    starts, ends = logits([0, 0, 0, 0, 1, 0, 0, 0]), logits([0, 0, 0, 0, 0, 1, 0, 0])
    assert find_answers(cut, rows, starts, ends).text == ["Zoë “flew”"]


def test_logits_at_the_labels_earn_the_full_score(tokenizer):
    context = "Henry I of England rebuilt the castle of Falaise  in 1123; Émile “Zola” wrote of 3.5% oxygen in strikes."
    said = ["Henry I", "England", "castle of Falaise", "1123", "Émile “Zola”", "3.5%", "strikes"]
    rows = pa.Table.from_pylist(
        [
            {"id": text, "question": "who?", "context": context,
             "answers": {"text": [text], "answer_start": [context.index(text)]}}
            for text in said
        ],
        schema=SCHEMA,
    )  # fmt: skip
    cut = windows(rows, tokenizer, max_length=50, stride=20)
    assert len(cut) >= 2 * len(said)
    starts, ends = random_logits(cut, 10, False), random_logits(cut, 11, False)
    for i, (start, end) in enumerate(zip(cut["start"], cut["end"], strict=True)):
        starts[i][start] += 12
        ends[i][end] += 12
    answers = find_answers(cut, rows, starts, ends)
    assert answers.text == said
    assert scores(answers.text, [[text] for text in said]) == {"exact_match": 1, "f1": 1}


def test_a_span_that_ends_in_blanks_loses_them(tokenizers):
    rows = written(1, random.Random(0)).set_column(2, "context", pa.array(["castle  of"]))
    cut = windows(rows, tokenizers["byte_level"], 60, 8)
    (window,) = cut
    (blank,) = np.flatnonzero(np.equal(window["char_start"], window["char_end"])) + window["context"]
    starts, ends = np.zeros((2, 1, window["length"]))
    starts[0, window["context"]], ends[0, blank] = 5, 5
    answers = find_answers(cut, rows, starts, ends)
    assert answers.text == ["castle"]
    assert n_best_answers(answers, rows)["0"][0]["text"] == "castle"


def test_prediction_files(tmp_path):
    cut, rows = by_hand("Zoë flew", "b")
    starts, ends = logits([0, 0, 0, 2, 0, 0], [3, 0, 0, 1, 0]), logits([0, 0, 0, 2, 0, 0], [3, 0, 0, 1, 0])
    answers = find_answers(cut, rows, starts, ends)
    write_predictions(tmp_path / "v1", answers, None)
    assert [path.name for path in (tmp_path / "v1").iterdir()] == ["predictions.json"]
    assert json.loads((tmp_path / "v1/predictions.json").read_text(encoding="utf-8")) == {"q0": "Zoë", "q1": "b"}
    write_predictions(tmp_path / "v2", answers, 0.0)
    files = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "v2").iterdir()}
    assert files == {
        "predictions.json": {"q0": "Zoë", "q1": ""},
        "null_odds.json": {"q0": -4.0, "q1": 4.0},
        "best_spans.json": {"q0": "Zoë", "q1": "b"},
    }


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cut, rows = by_hand("a")
    flat = logits([0] * 5)
    with pytest.raises(UserError, match="can't be written"):
        write_predictions(tmp_path / "file" / "below", find_answers(cut, rows, flat, flat), None)
