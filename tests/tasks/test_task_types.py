"""Question answering and summarisation through the same command and loop, on tiny models and rows of our own."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import pearsonr

from adalora.errors import UserError
from tasks.squad.scores import scores
from tasks.summarization.rouge import Rouge
from tests.conftest import JUDGING, WORDS, short_run
from tests.run.test_run import read

PLAIN = WORDS[:7]


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Rows in SQuAD's columns: the answer is the one word of the context that judges."""
    folder, draw = tmp_path_factory.mktemp("squad"), random.Random(0)
    for split, count in {"train": 96, "validation": 40}.items():
        rows = []
        for i in range(count):
            words = draw.choices(PLAIN, k=draw.randint(4, 14))
            answer = draw.choice(JUDGING)
            words.insert(draw.randint(0, len(words)), answer)
            context = " ".join(words)
            start = len(" ".join(words[: words.index(answer)])) + (words.index(answer) > 0)
            rows.append({"id": f"{split}-{i}", "title": "", "context": context, "question": "was the film good",
                         "answers": {"text": [answer], "answer_start": [start]}})  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return folder


@pytest.fixture
def squad(questions, tiny_model, tmp_path):
    return [
        "task=squad_v1", f"task.data_dir={questions}", "model=deberta", f"model.path={tiny_model}",
        *short_run(tmp_path), "budget.params=1740", "training.lr=0.02", "task.max_length=24", "task.stride=6",
    ]  # fmt: skip


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def test_squad_learns_and_leaves_what_the_official_script_reads(start, squad, questions):
    folder = start([*squad, "method=full", "training.epochs=10", "training.lr=0.005"])
    last = result_of(folder)["last"]
    assert last["f1"] > 0.8  # a random span of these contexts has about 0.1
    predictions = json.loads((folder / "predictions/validation/predictions.json").read_text())
    rows = pq.read_table(questions / "validation.parquet").to_pylist()
    again = scores([predictions[row["id"]] for row in rows], [row["answers"]["text"] for row in rows])
    assert {name: last[name] for name in again} == pytest.approx(again, abs=1e-12)


def test_squad_v2_says_what_its_training_rows_cannot_teach(start, squad, questions, capsys):
    folder = start([*squad, "task=squad_v2", "method=lora", "training.max_steps=2", "task.eval_rows=10"])
    result, out = result_of(folder), " ".join(capsys.readouterr().out.split())
    assert "every question has an answer, so the model can't learn to give none" in out
    assert "10 of 40 rows, evenly spaced" in out
    assert result["task"]["subset"] is True and result["task"]["rows"]["validation"] == 10
    assert {"best_f1_threshold", "has_answer_f1"} <= result["last"].keys()
    assert (folder / "predictions/validation/null_odds.json").exists()


@pytest.mark.parametrize("labels", ["[negative,positive]", "null"])
def test_classes_and_numbers_are_kept_row_by_row(start, tiny_run, labels):
    metric = "accuracy" if labels != "null" else "pearson"
    options = [f"task.labels={labels}", f"task.metrics=[{metric}]", f"task.headline={metric}"]
    folder = start([*tiny_run, "method=lora", "training.max_steps=2", *options])
    lines = [json.loads(line) for line in (folder / "predictions/validation.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(32))
    pairs = [(line["reference"], line["prediction"]) for line in lines]
    if labels == "null":
        found = pearsonr(*zip(*pairs, strict=True))[0]
    else:
        found = sum(reference == prediction for reference, prediction in pairs) / 32
        assert all(sum(line["probabilities"]) == pytest.approx(1, abs=1e-5) for line in lines)
    assert found == pytest.approx(result_of(folder)["last"][metric], abs=1e-6)


def test_summaries_are_learnt_scored_and_kept(start, summaries, articles):
    folder = start([*summaries, "method=full", "training.epochs=20", "training.lr=0.003"])
    result = result_of(folder)
    lines = [json.loads(line) for line in (folder / "predictions/validation.jsonl").read_text().splitlines()]
    assert sum(line["prediction"] == line["reference"] for line in lines) > 12  # by chance 4 of 24
    rows = pq.read_table(articles / "validation.parquet").to_pylist()
    assert [(line["id"], line["reference"]) for line in lines] == [(str(row["id"]), row["summary"]) for row in rows]
    again = Rouge().compute(
        predictions=[line["prediction"] for line in lines], references=[line["reference"] for line in lines]
    )
    assert {name: result["last"][name] for name in again} == pytest.approx(again, abs=1e-12)
    assert "train: left out: 1 with an empty document" in result["task"]["notes"]


RESUMED = [
    ("summaries", "adalora"),
    pytest.param("squad", "adalora", marks=pytest.mark.slow),
    pytest.param("summaries", "houlsby", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind, method", RESUMED)
def test_resumed_runs_end_in_the_same_bits(start, killed, request, tmp_path, kind, method):
    """Although evaluation merges a summariser's adapters into the weights in between."""
    args = [*request.getfixturevalue(kind), f"method={method}", "training.checkpoint_steps=5", "training.log_steps=3"]
    args += ["training.eval_steps=4"] + (["budget.rank=null", "budget.params=3000"] if method == "houlsby" else [])
    whole = start([*args, f"run_root={tmp_path}/whole"])
    killed(args, 12)
    assert read(start(args)) == read(whole)


def test_micro_batches_change_nothing_but_rounding(start, summaries, tmp_path):
    """The loss is the mean over target tokens, so the parts of a step are of unlike weight; dropout is off."""
    args = [*summaries, "method=lora", "training.max_steps=6", "training.log_steps=1"]
    whole = start([*args, f"run_root={tmp_path}/one"])
    parts = start([*args, "training.micro_batches=4", f"run_root={tmp_path}/four"])
    one, four = ([json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (whole, parts))
    for a, b in zip(one, four, strict=True):
        assert b == pytest.approx(a, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (["task.max_length=24", "task.stride=30"], r"task\.stride=30"),
        (
            ["model=bart_large"],
            r"is squad, which BART-large has no head for: choose a model of type deberta-v2",
        ),
    ],
)
def test_a_mistake_is_one_line(compose, change, message):
    with pytest.raises(UserError, match=message) as caught:
        compose("task=squad_v1", *change)
    assert "\n" not in str(caught.value)
