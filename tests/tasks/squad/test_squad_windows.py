"""Windows with three kinds of tokenizer, against the tokenizer itself and the usual rule written as loops."""

import random
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from adalora.errors import UserError
from tasks.squad.rows import SCHEMA, check_rows
from tasks.squad.windows import windows, without_window

WORDS = ["castle", "of", "Falaise", "1123", "(1885),", "Émile", "“Germinal”", "35", "m", "🚀", "3½", "oxygen.", "nägel"]


def table(*rows):
    """Rows of (question, context, answer, its start), the last two None for no answer."""
    return pa.Table.from_pylist(
        [
            {"id": f"q{i}", "question": question, "context": context,
             "answers": {"text": [answer] if answer else [], "answer_start": [start] if answer else []}}
            for i, (question, context, answer, start) in enumerate(rows)
        ],
        schema=SCHEMA,
    )  # fmt: skip


def random_rows(count=60, seed=0):
    """Contexts of 1 to 40 words with one or two blanks between; answers from one word's start to another's end."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        parts = [draw.choice(WORDS) for _ in range(draw.randint(1, 40))]
        context = draw.choice(["", " "])
        places = []
        for part in parts:
            places.append(len(context))
            context += part + draw.choice([" ", "  "])
        first = draw.randrange(len(parts))
        last = min(len(parts) - 1, first + draw.randrange(3))
        answer = context[places[first] : places[last] + len(parts[last])]
        rows.append(
            (
                draw.choice(["What?", "  Who wrote it"]),
                context,
                *draw.choice([(answer, places[first])] * 4 + [(None, None)]),
            )
        )
    return table(*rows)


@pytest.fixture(scope="module")
def letters():
    """One token a letter: [CLS] 0, [SEP] 1, a 2, b 3 and so on."""
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(["[CLS]", "[SEP]", *"abcdefgh?"])}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]")


def test_windows_by_hand(letters):
    rows = table(("?", "a b c d e f g", "c d", 4), ("?", "h", None, None))
    cut = windows(rows, letters, max_length=8, stride=2)  # room for 4 letters, the last 2 again
    assert cut.to_dict() == {
        "input_ids": [[0, 10, 1, 2, 3, 4, 5, 1], [0, 10, 1, 4, 5, 6, 7, 1], [0, 10, 1, 6, 7, 8, 1], [0, 10, 1, 9, 1]],
        "length": [8, 8, 7, 5],
        "row": [0, 0, 0, 1],
        "start": [5, 3, 0, 0],
        "end": [6, 4, 0, 0],
        "context": [3, 3, 3, 3],
        "char_start": [[0, 2, 4, 6], [4, 6, 8, 10], [8, 10, 12], [0]],
        "char_end": [[1, 3, 5, 7], [5, 7, 9, 11], [9, 11, 13], [1]],
    }


def pieces(window):
    """The context's token ids in a window."""
    return window["input_ids"][window["context"] :][: len(window["char_start"])]


def test_what_windows_are(tokenizer):
    """Neighbours share `stride` tokens, and together they contain the context's tokens, after the question's."""
    rows, length, stride = random_rows(), 40, 8
    cut = windows(rows, tokenizer, length, stride)
    assert max(cut["length"]) == length
    of_row = {row: [window for window in cut if window["row"] == row] for row in range(rows.num_rows)}
    assert max(map(len, of_row.values())) > 3
    assert cut["row"] == sorted(cut["row"])
    for row, parts in zip(rows.to_pylist(), of_row.values(), strict=True):
        question = tokenizer(row["question"].lstrip(), "", add_special_tokens=False)["input_ids"]
        joined = pieces(parts[0])
        for before, window in pairwise(parts):
            assert pieces(before)[-stride:] == pieces(window)[:stride]
            joined += pieces(window)[stride:]
        assert joined == tokenizer(row["context"], add_special_tokens=False)["input_ids"]
        for window in parts:
            assert len(window["input_ids"]) == window["length"]
            assert window["input_ids"][1 : 1 + len(question)] == question
            assert window["input_ids"][0] == tokenizer.cls_token_id
            assert window["input_ids"][-1] == tokenizer.sep_token_id == window["input_ids"][window["context"] - 1]


def test_characters_of_tokens(tokenizer):
    """The tokenizer's own characters, without blanks at their front; together all that isn't blank."""
    rows = random_rows()
    cut = windows(rows, tokenizer, 40, 8)
    seen = [set() for _ in range(rows.num_rows)]
    for window in cut:
        context = rows["context"][window["row"]].as_py()
        for a, b in zip(window["char_start"], window["char_end"], strict=True):
            assert 0 <= a <= b <= len(context)
            assert not context[a:b][:1].isspace()
            seen[window["row"]].update(range(a, b))
    for context, places in zip(rows["context"].to_pylist(), seen, strict=True):
        assert places >= {i for i, character in enumerate(context) if not character.isspace()}


def test_labels_give_back_the_answer(tokenizer):
    """Answers of whole words come back as they are where the window holds them; else the label is [CLS]."""
    rows = random_rows()
    cut = windows(rows, tokenizer, 40, 8)
    labelled = set()
    for window in cut:
        row = rows.slice(window["row"], 1).to_pylist()[0]
        start, end = window["start"] - window["context"], window["end"] - window["context"]
        texts = row["answers"]["text"]
        if window["start"]:
            found = row["context"][window["char_start"][start] : window["char_end"][end]]
            assert [found] == texts
            labelled.add(window["row"])
        else:
            assert window["end"] == 0
            begin = row["answers"]["answer_start"][0] if texts else -1
            held = window["char_start"][0] <= begin and begin + len((texts or [""])[0]) <= window["char_end"][-1]
            assert not (texts and held)
    whole = {i for i, answers in enumerate(rows["answers"].to_pylist()) if answers["text"]}
    assert labelled <= whole
    assert len(labelled) > 0.9 * len(whole)  # an answer longer than the overlap may be in no window whole


def usual_labels(encoded, i, begin, behind):
    """The released script's rule on the tokenizer's own offsets, one token after another; None where tokens share
    the answer's first or last character, which is where ours differs (D-qa-labels)."""
    offsets = [
        span if part == 1 else None
        for span, part in zip(encoded["offset_mapping"][i], encoded.sequence_ids(i), strict=True)
    ]
    inside = [place for place, span in enumerate(offsets) if span is not None]
    if offsets[inside[0]][0] > begin or offsets[inside[-1]][1] < behind:
        return 0, 0
    for character in (begin, behind - 1):
        if sum(offsets[place][0] <= character < offsets[place][1] for place in inside) > 1:
            return None
    start = max(place for place in inside if offsets[place][0] <= begin)
    end = min(place for place in inside if offsets[place][1] >= behind)
    return start, end


def test_labels_are_the_usual_ones(tokenizer):
    draw = random.Random(1)
    whole = [row for row in random_rows().to_pylist() if row["answers"]["text"]]
    rows = []
    for row in whole:  # answers from anywhere to anywhere, in the middle of words too
        places = [i for i, character in enumerate(row["context"]) if not character.isspace()]
        first = draw.randrange(len(places))
        last = min(len(places) - 1, first + draw.randrange(12))
        rows.append(("who?", row["context"], row["context"][places[first] : places[last] + 1], places[first]))
    rows = table(*rows)
    cut = windows(rows, tokenizer, 40, 8)
    encoded = tokenizer(
        rows["question"].to_pylist(), rows["context"].to_pylist(), truncation="only_second", max_length=40, stride=8,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    compared = 0
    for i, window in enumerate(cut):
        answers = rows["answers"][window["row"]].as_py()
        begin = answers["answer_start"][0]
        expected = usual_labels(encoded, i, begin, begin + len(answers["text"][0]))
        if expected is not None:
            assert (window["start"], window["end"]) == expected
            compared += expected != (0, 0)
    assert compared > 30


def test_an_answers_outer_blanks_are_left_out(tokenizers):
    rows = table(("who?", "the castle of Henry", " of ", 10), ("who?", "the castle of Henry", "of", 11))
    cut = windows(rows, tokenizers["wordpiece"], 40, 8)
    assert cut["start"][0] == cut["start"][1]
    assert cut["end"][0] == cut["end"][1]


def test_a_character_of_several_tokens_is_labelled_whole(tokenizers):
    cut = windows(table(("who?", "castle 🚀 of", "🚀", 7)), tokenizers["byte_level"], 40, 8)
    (window,) = cut
    assert window["end"] - window["start"] == 3  # four bytes


def test_the_first_answer_is_labelled(letters):
    rows = table(("?", "a b a", "a", 0)).to_pylist()
    rows[0]["answers"] = {"text": ["b", "a"], "answer_start": [2, 0]}
    cut = windows(pa.Table.from_pylist(rows, schema=SCHEMA), letters, 10, 2)
    assert (cut["start"][0], cut["end"][0]) == (4, 4)


def test_leading_blanks_of_a_question_take_no_room(tokenizer):
    one, other = (windows(table((blanks + "who?", "castle", None, None)), tokenizer, 60, 8) for blanks in ("", "\n   "))
    assert one.to_dict() == other.to_dict()


def test_questions_that_leave_no_room_are_noted(letters):
    # 9 - 3 - 4 leaves room for 2 letters: not for 3, of which 2 come again, but for 2
    long = "h h h h"
    rows = table(
        (long, "a b c", "a", 0), ("?", "a b c", "a", 0), (long, "a b", "b", 2), (long + long[1:], "", None, None)
    )
    cut = windows(rows, letters, max_length=9, stride=2)
    assert cut["row"] == [1, 2]
    assert (cut["start"][1], cut["end"][1]) == (7, 7)
    missing = without_window(rows, cut)
    assert len(missing) == 2 and missing[0] == "q0"


def test_no_room_at_all_is_refused(letters):
    with pytest.raises(UserError, match="task.max_length=9 .* task.stride=6") as refusal:
        windows(table(("?", "a b c d e f g", "a", 0)), letters, max_length=9, stride=6)
    assert "\n" not in str(refusal.value)


def test_a_blank_context_is_one_window_without_tokens(tokenizer):
    cut = windows(table(("who?", "", None, None), ("who?", "castle", "castle", 0)), tokenizer, 40, 8)
    assert cut["row"] == [0, 1]
    assert cut["char_start"][0] == cut["char_end"][0] == []
    assert (cut["start"][0], cut["end"][0]) == (0, 0)
    assert cut["start"][1] > 0


def test_batches_of_rows_join_up(tokenizers, monkeypatch):
    rows = random_rows(20)
    whole = windows(rows, tokenizers["wordpiece"], 40, 8)
    monkeypatch.setattr("tasks.squad.windows.BATCH", 7)
    assert windows(rows, tokenizers["wordpiece"], 40, 8).to_dict() == whole.to_dict()


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
def test_real_answers_come_back(shared_data, tokenizers, kind):
    """In real rows the labelled text is the answer, or a word that the answer is part of."""
    raw = pq.read_table(shared_data("squad/train.parquet"))
    rows, _ = check_rows(raw.slice(0, 300), "train", unanswerable=False, training=True)
    cut = windows(rows, tokenizers[kind], 384, 128)
    contexts, answers = rows["context"].to_pylist(), rows["answers"].to_pylist()
    same, labelled = 0, set()
    for window in cut:
        if window["start"]:
            start, end = window["start"] - window["context"], window["end"] - window["context"]
            found = contexts[window["row"]][window["char_start"][start] : window["char_end"][end]]
            answer = answers[window["row"]]["text"][0].strip()
            assert answer in found
            same += found == answer
            labelled.add(window["row"])
    assert len(labelled) == rows.num_rows
    assert same > 0.97 * len(labelled)


@pytest.mark.parametrize(
    "context, answer",
    [
        ("He met Rene\u0301 there.", "Rene\u0301"),
        ("He met Rene\u0301", "Rene\u0301"),  # at the end of the context
        ("It is Vie\u0323\u0302t Nam here", "Vie\u0323\u0302t"),
        ("It is so ma\u0302\u0301", "ma\u0302\u0301"),  # two marks
        ("\u0643\u064e\u062a\u064e\u0628\u064e", "\u0643\u064e\u062a\u064e\u0628\u064e"),  # harakat
        ("Plain Ada", "Ada"),
    ],
)
def test_an_answer_that_ends_in_a_combining_mark(tokenizer, context, answer):
    """The label is there, and the labelled characters are the answer, whether the tokenizer composes, drops or keeps
    marks."""
    answers = {"text": [answer], "answer_start": [context.index(answer)]}
    row = {"id": "a", "question": "Who?", "context": context, "answers": answers}
    (window,) = windows(pa.Table.from_pylist([row], SCHEMA), tokenizer, 60, 5)
    start, end = window["start"] - window["context"], window["end"] - window["context"]
    assert window["start"]
    assert context[window["char_start"][start] : window["char_end"][end]] == answer


def test_marks_leave_the_characters_of_other_tokens_alone(tokenizer):
    """A mark that is a token of its own stays apart."""
    context = "Rene\u0301 ate cafe\u0301s, Ada did not"
    rows = [{"id": "a", "question": "Who?", "context": context, "answers": {"text": [], "answer_start": []}}]
    (window,) = windows(pa.Table.from_pylist(rows, SCHEMA), tokenizer, 60, 5)
    spans = list(zip(window["char_start"], window["char_end"], strict=True))
    distinct = list(dict.fromkeys(spans))
    assert all(before[1] <= after[0] for before, after in pairwise(distinct))
    assert {i for a, b in spans for i in range(a, b)} == {i for i, letter in enumerate(context) if letter != " "}
