"""Likelihoods of choices against a loop over tokens, generation against one, and the numbers that answers end with."""

import math

import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer

from adalora.training.batches import ByLength, loader
from tasks.answers.generate import exact_number, final_number
from tasks.discovery import create
from tasks.task_type import Split

CHOICES = [["good", "very good the film"], ["poor", "dull", "the plot was dull", "good"]]
PROMPTS = ["the film was", "the cast"]


@pytest.fixture
def tokenizer(tiny_llama):
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture
def model(tiny_llama):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float64).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(30)  # tied: likelihoods that differ
    return model


@pytest.fixture
def evaluated(compose, tokenizer, model):
    def evaluate(table, *options, multiple=1):
        kind = create(compose(*options).task)
        features = kind.features(table, tokenizer, False)
        by_length = ByLength(features["length"][:], 2)
        batches = loader(features, by_length, kind.collate(tokenizer, multiple))
        split = Split("validation", table, features, batches, by_length.order)
        return kind.evaluate(Accelerator(cpu=True), model, split, tokenizer, lambda done, rows: None)

    return evaluate


def nats_of(model, tokenizer, prompt, answer):
    """The answer's negative log-likelihood, a token at a time."""
    start = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    total = 0.0
    for token in tokenizer(answer, add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            total -= model(input_ids=torch.tensor([start])).logits[0, -1].log_softmax(-1)[token].item()
        start.append(token)
    return total


@pytest.mark.parametrize("multiple", [1, 8])
def test_the_likeliest_choice_counts_plain_and_by_characters(evaluated, model, tokenizer, multiple):
    table = pa.table({"row": [4, 6], "prompt": PROMPTS, "choices": CHOICES, "gold": [1, 2]})
    scores = evaluated(table, "task=choices", multiple=multiple)
    truth = [[nats_of(model, tokenizer, p, c) for c in row] for p, row in zip(PROMPTS, CHOICES, strict=True)]
    for row, nats in zip(scores.predictions, truth, strict=True):
        assert row["nats"] == pytest.approx(nats, rel=1e-6)
    best = [min(range(len(row)), key=row.__getitem__) for row in truth]
    rates = [
        [n / len(c) for n, c in zip(row, choices, strict=True)] for row, choices in zip(truth, CHOICES, strict=True)
    ]
    by_length = [min(range(len(row)), key=row.__getitem__) for row in rates]
    assert best != by_length  # or this test couldn't tell them apart
    assert scores.metrics == {
        "accuracy": sum(i == gold for i, gold in zip(best, (1, 2), strict=True)) / 2,
        "accuracy_norm": sum(i == gold for i, gold in zip(by_length, (1, 2), strict=True)) / 2,
    }
    assert [row["row"] for row in scores.predictions] == [4, 6]
    tokens = sum(len(tokenizer(c, add_special_tokens=False)["input_ids"]) for c in (CHOICES[0][1], CHOICES[1][2]))
    assert scores.loss == pytest.approx((truth[0][1] + truth[1][2]) / tokens, rel=1e-6)
    assert scores.weight == tokens


def test_free_answers_have_bits_per_byte_and_are_generated(evaluated, model, tokenizer):
    def greedy(prompt, most):
        ids = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        count = len(ids)
        while len(ids) < count + most:
            with torch.no_grad():
                token = model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item()
            if token == tokenizer.eos_token_id:
                break
            ids.append(token)
        return tokenizer.decode(ids[count:], skip_special_tokens=True).strip()

    prompts = [*PROMPTS, "the plot was very very dull and"]
    expected = [greedy(prompt, 6) for prompt in prompts]
    answers = [expected[0] or "good", "good", expected[2] or "good"]
    assert any(expected)
    table = pa.table({"row": [0, 1, 2], "prompt": prompts, "answer": answers})
    scores = evaluated(table, "task=answers", "task.metrics=[bits_per_byte,exact_match]", "task.max_new_tokens=6")
    assert [row["prediction"] for row in scores.predictions] == expected
    assert scores.metrics["exact_match"] == pytest.approx(
        sum(a == e for a, e in zip(answers, expected, strict=True)) / 3
    )
    nats = sum(nats_of(model, tokenizer, p, a) for p, a in zip(prompts, answers, strict=True))
    count = sum(len(answer.encode()) for answer in answers)
    assert scores.metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / count, rel=1e-6)


def test_a_text_that_goes_on_with_another_question_ends_there(evaluated, monkeypatch):
    table = pa.table({"row": [0, 1], "prompt": PROMPTS, "answer": ["#### 4", "#### 4"]})
    texts = ["Two and two.\n#### 4\nQuestion: a\nAnswer: #### 7", "Question: 4"]
    monkeypatch.setattr("tasks.answers.task_type.generate", lambda *args: texts)
    options = ["task=answers", "task.metrics=[exact_number]", "task.headline=exact_number"]
    for prompt, score in (("Question: {prompt}", 1.0), ("{prompt}", 0.5)):
        assert evaluated(table, *options, f"task.prompt='{prompt}'").metrics == {"exact_number": score}


def test_texts_are_never_shown(compose):
    kind = create(compose("task=answers", "task.metrics=[bits_per_byte,exact_match]").task)
    rows = [{"row": i, "nats": 1.5, "prediction": "a", "reference": "b", "exact_match": False} for i in range(3)]
    found = kind.samples(None, rows, 2)
    assert found.columns == ["row", "nats", "exact_match"]
    assert not any(isinstance(value, str) for row in found.rows for value in row)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 + 3 = <<5+3=8>>8 apples.\n#### 8", "8"),
        ("so it is 1,250.50 in all. The answer is: $1,250.50.", "1250.50"),
        ("The answer is 7 because 7 > 3", "7"),
        ("first 3, then 12", "12"),
        ("The answer is: -4", "-4"),
        ("#### 1\n#### 2", "2"),
        ("I have no idea", None),
        ("#### none", None),
    ],
)
def test_final_numbers(text, number):
    assert final_number(text) == (None if number is None else pytest.approx(float(number)))


def test_numbers_are_compared_as_numbers():
    assert exact_number("it is 18.0", "#### 18")
    assert exact_number("The answer is 1000", "#### 1,000")
    assert not exact_number("nothing", "nothing")
    assert not exact_number("18 or 19", "#### 18")
