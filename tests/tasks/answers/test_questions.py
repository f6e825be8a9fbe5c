"""Rows of questions: whatever form people have them in, and what isn't one."""

import json

import pyarrow as pa
import pytest

from adalora.errors import UserError
from tasks.answers.rows import parse_llm_adapters
from tasks.data import load_data
from tasks.formats import read_csv, read_json

QUESTIONS = [("What swims?", ["a fish", "a stone", "a cup"], 0), ("What is hot?", ["ice", "fire"], 1)]


@pytest.fixture
def checked(compose):
    from tasks.discovery import create

    def check(table, *options):
        return create(compose("task=choices", *options).task).check_rows(table, "here", True)

    return check


def forms():
    labels = [["A", "B", "C"], ["1", "2"]]
    answers = {
        "text": [choices[gold] for _, choices, gold in QUESTIONS],
        "letter": ["A", "B"],
        "number": [0, 1],
        "label": [names[gold] for names, (_, _, gold) in zip(labels, QUESTIONS, strict=True)],
    }
    for name, given in answers.items():
        rows = [
            {"question": question, "choices": choices, "answer": answer}
            for (question, choices, _), answer in zip(QUESTIONS, given, strict=True)
        ]
        if name == "label":
            rows = [
                row | {"choices": {"text": row["choices"], "label": names}}
                for row, names in zip(rows, labels, strict=True)
            ]
            yield "hub", pa.Table.from_pylist(rows)
        lines = "\n".join(map(json.dumps, rows))
        yield f"{name} in JSONL", read_json(lines)
        quoted = "\n".join(
            ",".join(
                '"' + (value if isinstance(value, str) else json.dumps(value)).replace('"', '""') + '"'
                for value in row.values()
            )
            for row in rows
        )
        yield f"{name} in CSV", read_csv(f"question,choices,answer\n{quoted}\n")
    lines = [f'{question},"{choices}",{choices[gold]}' for question, choices, gold in QUESTIONS]
    yield "Python's lists in CSV", read_csv("question,choices,answer\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("table", [pytest.param(table, id=name) for name, table in forms()])
def test_a_question_is_the_same_in_every_form(checked, table):
    rows, notes = checked(table)
    assert rows.to_pylist() == [
        {"row": i, "prompt": f"Question: {question}\nAnswer:", "choices": choices, "gold": gold}
        for i, (question, choices, gold) in enumerate(QUESTIONS)
    ]
    assert notes == []


def test_numbers_without_a_0_are_noted(checked):
    rows = [{"question": "q", "choices": ["a", "b", "c"], "answer": i} for i in (1, 2)]
    _, (note,) = checked(read_json(json.dumps(rows)))
    assert note == "answer is a number from 0, and 0 never occurs: if yours count from 1, give letters or texts"


def test_choices_may_have_a_column_each(checked):
    rows, _ = checked(
        read_csv("q,a,b,key\nWarm?,yes,no,B\n"), 'task.prompt="{q}"', "task.choices=[a,b]", "task.answer=key"
    )
    assert rows.to_pylist() == [{"row": 0, "prompt": "Warm?", "choices": ["yes", "no"], "gold": 1}]


def test_choices_are_numbers_as_they_are_written(checked):
    both = enumerate(([1, 2, 3], [0.5, 1, 2]), 1)
    rows = [{"question": "q", "choices": choices, "answer": i} for i, choices in both]
    table, _ = checked(read_json(json.dumps(rows)))
    assert table["choices"].to_pylist() == [["1", "2", "3"], ["0.5", "1", "2"]]
    assert table["gold"].to_pylist() == [0, 2]


def test_true_and_false_are_choices(checked):
    table, _ = checked(read_json('{"question": "q", "choices": [true, false], "answer": false}'))
    assert (table["choices"].to_pylist(), table["gold"].to_pylist()) == ([["true", "false"]], [1])


def test_labels_that_not_all_rows_have_don_t_count(checked):
    rows = [{"question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answer": "B"},
            {"question": "q", "choices": {"text": ["x", "y", "z"]}, "answer": "C"}]  # fmt: skip
    assert checked(read_json(json.dumps(rows)))[0]["gold"].to_pylist() == [1, 2]  # as letters


def test_a_column_s_name_may_have_a_dot(checked):
    rows = read_json(json.dumps([{"meta.title": "{T}", "choices": ["a", "b"], "answer": "b"}]))
    table, _ = checked(rows, "task.prompt='{{hi}} {meta.title}:'")
    assert table["prompt"].to_pylist() == ["{hi} {T}:"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "q", "choices": ["a", "b"], "answer": "c"}], r"row 0 .*'c' is none of its 2 choices.*letter"),
        ([{"question": "q", "choices": ["x", "y"], "answer": v} for v in (1, 2)], r"row 1 .*0 is the first"),
        ([{"question": "q", "choices": ["a"], "answer": "a"}], "row 0 .*two texts or more"),
        ([{"question": "q", "choices": ["a", ""], "answer": "a"}], "row 0 .*two texts or more"),
        ([{"question": "q", "choices": "a or b", "answer": "a"}], "row 0 .*two texts or more"),
        ([{"question": "q", "choices": ["a", "b"], "answer": None}], "gap in column 'answer'"),
        ([{"question": "q", "choice": ["a", "b"], "answer": "a"}], "no column 'choices'"),
        ([{"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answer": "A"}], "fewer labels"),
    ],
)  # fmt: skip
def test_a_row_that_isn_t_valid_is_named(checked, rows, message):
    with pytest.raises(UserError, match=message):
        checked(read_json("\n".join(map(json.dumps, rows))))


def adapters(question, choices, answer):
    listed = " ".join(f"Answer{i}: {choice}" for i, choice in enumerate(choices, start=1))
    names = "/".join(f"answer{i}" for i in range(1, len(choices) + 1))
    start = "Please choose the correct answer to the question:"
    return {
        "instruction": f"{start} {question}\n\n{listed}\n\nAnswer format: {names}",
        "input": "",
        "output": f"the correct answer is {answer}",
        "answer": answer,
    }


def test_llm_adapters_rows_become_questions(checked):
    rows = [adapters(question, choices, f"answer{gold + 1}") for question, choices, gold in QUESTIONS]
    rows.insert(1, adapters("Which?", ["this", "that"], "answer3"))
    rows.append({**rows[0], "instruction": "Say something."})
    found, notes = checked(read_json(json.dumps(rows)))
    assert [(row["prompt"], row["choices"], row["gold"]) for row in found.to_pylist()] == [
        (f"Question: {question}\nAnswer:", choices, gold) for question, choices, gold in QUESTIONS
    ]
    assert found["row"].to_pylist() == [0, 2]
    assert notes == ["left out: 2 that aren't in LLM-Adapters' form"]


@pytest.mark.parametrize(
    ("instruction", "answer", "found"),
    [
        (
            "Please choose the correct answer to the question: What is\n2: 3?\n\nAnswer1: a. Answer2: b Answer: c\n\n"
            "Answer format: answer1/answer2",
            "answer2", ("What is\n2: 3?", ["a.", "b Answer: c"], 1),
        ),
        (
            "Please answer the following question with true or false, question: is it so?\n\nAnswer format: true/false",
            "false", ("is it so?", ["true", "false"], 1),
        ),
        ("Please choose the right question: Q\n\nAnswer1: a\n\nAnswer format: answer1", "answer1", None),
        ("Please take the question: Q\n\nAnswer1: a Answer2: b\n\nAnswer format: answer1/answer3", "answer1", None),
        ("Answer1: a Answer2: b", "answer1", None),
    ],
)  # fmt: skip
def test_parsing(instruction, answer, found):
    if found is not None:
        question, choices, gold = found
        found = (question, choices, choices[gold])
    assert parse_llm_adapters(instruction, answer) == found


@pytest.fixture
def folder(tmp_path):
    rows = [{"question": f"q{i}", "choices": [f"a{i}", f"b{i}"], "answer": i % 2} for i in range(10)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_rows_of_training_are_held_out(compose, folder):
    task = compose("task=choices", f"task.data_dir={folder}", "task.held_out=3").task
    data = load_data(task)
    assert data.rows == {"train": 7, "validation": 3}
    assert data.tables["validation"]["row"].to_pylist() == [0, 3, 6]
    assert sorted([*data.tables["train"]["row"].to_pylist(), 0, 3, 6]) == list(range(10))
    assert data.notes == ["validation: 3 rows of train, evenly spaced (task.held_out)"]
    assert data.subset is None  # its official counts aren't known
    with pytest.raises(UserError, match="task.held_out=10: train has 10 rows: leave some"):
        load_data(compose("task=choices", f"task.data_dir={folder}", "task.held_out=10").task)
    with pytest.raises(UserError, match="set one of both to null"):
        compose("task=choices", "task.held_out=3", "task.eval_file=x.jsonl")


def test_gsm8k_has_no_validation_so_rows_of_train_are_held_out(compose, tmp_path):
    for split, count in {"train": 300, "test": 3}.items():
        rows = [json.dumps({"question": f"{split} {i}?", "answer": f"{i} it is\n#### {i}"}) for i in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    data = load_data(compose("task=gsm8k", f"task.data_dir={tmp_path}").task)
    assert data.rows == {"train": 100, "validation": 200, "test": 3}
    assert data.subset is True
    only = load_data(compose("task=gsm8k", f"task.data_dir={tmp_path}", "task.eval_split=test").task)
    assert only.rows == {"train": 100, "test": 3}  # the same training


def test_metamath_is_scored_on_gsm8k(compose, tmp_path):
    for folder in ("metamath", "gsm8k"):
        (tmp_path / folder).mkdir()
    rows = [{"query": f"q{i}", "response": f"r. The answer is: {i}", "type": "GSM_Rephrased"} for i in range(5)]
    (tmp_path / "metamath" / "train.json").write_text(json.dumps(rows))
    for split in ("train", "test"):
        rows = [json.dumps({"question": f"{split} {i}?", "answer": f"#### {i}"}) for i in range(60)]
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text("\n".join(rows))
    task = compose("task=metamath").task
    data = load_data(task, str(tmp_path))
    assert data.rows == {"train": 5, "validation": 50, "test": 60}
    assert data.tables["validation"]["prompt"][0].as_py() == "Question: train 0? Think step by step.\nAnswer:"
    assert task.metric_name("exact_number", "test") == "exact_number_test"
    with pytest.raises(UserError, match="test has the headline metric"):
        compose("task=metamath", "~task.others.validation")
    with pytest.raises(UserError, match="name no split: a run needs one to score"):
        compose("task=metamath", "~task.others.validation", "~task.others.test")
    with pytest.raises(UserError, match=r"task\.others\.test: metamath has a split of that name"):
        compose("task=metamath", "task.train_split=test")
    for option in ("held_out=3", "eval_split=test", "eval_file=x.json"):
        with pytest.raises(UserError, match="only scored on other data"):
            compose("task=metamath", f"task.{option}")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ('task.prompt="no column"', "name columns in braces"),
        ('task.prompt="{open"', "columns stand in braces"),
        ('task.prompt="{}"', "name columns in braces"),
        ('task.prompt="{question:d}"', "name columns in braces"),
        ("task.metrics=[exact_match]", r"isn't for choices"),
        ("task.template=chatml", "plain, chat"),
        ("task.loss_on=prompt", "answer, all"),
    ],
)
def test_options_fail_before_anything_is_read(compose, option, message):
    with pytest.raises(UserError, match=message):
        compose("task=choices", option, "task.headline=exact_match" if "exact" in option else "seed=1")


@pytest.mark.parametrize("metric, direction", [("bits_per_byte", "min"), ("exact_match", "max")])
def test_the_headline_metric_says_which_scores_are_better(compose, metric, direction):
    assert compose("task=answers", f"task.metrics=[{metric}]", f"task.headline={metric}").task.direction == direction


def test_the_whole_of_gsm8k_has_the_official_counts(compose, shared_data):
    options = ["task=gsm8k", f"task.data_dir={shared_data('lm/gsm8k')}"]
    data = load_data(compose(*options).task)
    assert data.rows == {"train": 7273, "validation": 200, "test": 1319}
    assert data.subset is False
    assert load_data(compose(*options, "task.held_out=100").task).subset is True


@pytest.mark.parametrize(
    ("name", "folder", "rows"),
    [
        ("arc_easy", "ARC-Easy", {"train": 2051, "validation": 200, "test": 2376}),
        ("arc_challenge", "ARC-Challenge", {"train": 919, "validation": 200, "test": 1172}),
        ("openbookqa", "openbookqa", {"train": 4757, "validation": 200, "test": 500}),
        ("choices", "boolq", {"train": 9227, "validation": 200}),
    ],
)
def test_all_rows_of_llm_adapters_are_questions(compose, shared_data, name, folder, rows):
    data = load_data(
        compose(f"task={name}", f"task.data_dir={shared_data('lm/llm-adapters')}/{folder}", "task.held_out=200").task
    )
    assert data.rows == rows
    assert not any("left out" in note for note in data.notes)
