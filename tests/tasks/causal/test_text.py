"""Packing, windows, and bits per byte against a loop over tokens."""

import json
import math
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer

from adalora.errors import UserError
from adalora.training.batches import ByLength, loader
from tasks.causal.text import windows_of
from tasks.discovery import create
from tasks.task_type import Split

ROWS = pa.table({"text": ["the film was very good", "a", "the cast was poor the plot was dull " * 5]})


@pytest.fixture
def tokenizer(tiny_llama):
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture
def task_type(compose):
    def build(*options):
        return create(compose("task=text", *options).task)

    return build


@pytest.mark.parametrize(("size", "stride"), [(16, 8), (8, 7), (5, 1), (512, 256)])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 40])
def test_every_token_but_the_first_is_scored_once_with_the_most_context_it_has(count, size, stride):
    found = list(windows_of(count, size, stride))
    scored = [token for window in found for token in range(window.last - window.scored, window.last)]
    assert scored == list(range(1, count))
    for window in found:
        assert window.last - window.first <= size
        for token in range(window.last - window.scored, window.last):
            starts = [first for first in range(0, count, stride) if first < token < first + size]
            assert window.first == min(starts)


def test_blocks_are_the_articles_one_after_another(task_type, tokenizer):
    rows = task_type("task.max_length=8").features(ROWS, tokenizer, True)
    whole = [[2, *tokenizer(text, add_special_tokens=False)["input_ids"], 3] for text in ROWS["text"].to_pylist()]
    stream = [token for article in whole for token in article]
    assert list(chain.from_iterable(rows["input_ids"])) == stream
    assert set(rows["length"][:-1]) == {8}


def test_a_tokenizer_without_bos_starts_texts_with_eos(task_type, tokenizer):
    tokenizer.bos_token = None
    rows = task_type("task.max_length=64").features(ROWS.slice(1, 1), tokenizer, True)
    assert rows["input_ids"][:] == [[3, *tokenizer("a", add_special_tokens=False)["input_ids"]]]
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="BOS"):
        task_type().features(ROWS, tokenizer, False)


@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize(("size", "stride"), [(16, 8), (12, 3), (512, 256)])
def test_bits_per_byte_are_those_of_a_loop_over_tokens(task_type, tokenizer, tiny_llama, size, stride, multiple):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float64).eval()
    kind = task_type(f"task.eval_length={size}", f"task.eval_stride={stride}")
    features = kind.features(ROWS, tokenizer, False)
    by_length = ByLength(features["length"][:], 2)
    batches = loader(features, by_length, kind.collate(tokenizer, multiple))
    split = Split("validation", ROWS, features, batches, by_length.order)
    scores = kind.evaluate(Accelerator(cpu=True), model, split, tokenizer, lambda done, rows: None)

    nats, tokens = [], 0
    for text in ROWS["text"].to_pylist():
        article = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        nats.append(0.0)
        for i in range(1, len(article)):
            first = min(start for start in range(0, len(article), stride) if start < i < start + size)
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([article[first:i]])).logits[0, -1]
            nats[-1] -= logits.log_softmax(-1)[article[i]].item()
            tokens += 1
    count = sum(len(text.encode()) for text in ROWS["text"].to_pylist())
    # the loss is computed in fp32
    assert scores.metrics["bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / count, rel=1e-6)
    assert scores.loss == pytest.approx(sum(nats) / tokens, rel=1e-6)
    assert scores.weight == tokens
    np.testing.assert_allclose(scores.predictions, np.array(nats) / math.log(2), rtol=1e-6)


def test_the_loss_is_the_mean_over_next_tokens(task_type, tokenizer, tiny_llama):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    kind = task_type("task.max_length=16")
    rows = kind.features(ROWS, tokenizer, True)
    batch = kind.collate(tokenizer, 8)(list(rows))
    loss, weight = kind.loss(model, batch)
    assert int(weight) == sum(kind.weights(rows))
    nats = []
    for ids in rows["input_ids"]:
        ids = torch.tensor([ids])
        nats.append(model(input_ids=ids, labels=ids).loss * (ids.shape[1] - 1))  # the library's own loss
    torch.testing.assert_close(loss, torch.stack(nats).sum() / weight)


def test_texts_are_never_shown(task_type):
    kind = task_type()
    found = kind.samples(Split("validation", ROWS, None, None, None), torch.tensor([8.0, 16.0, 24.0]), 3)
    assert found.columns == ["row", "bytes", "bits_per_byte"]
    assert [row[0] for row in found.rows] == [0, 1, 2]
    assert not any(isinstance(value, str) for row in found.rows for value in row)


def test_the_bits_of_every_article_are_saved_without_its_text(task_type, tmp_path):
    task_type().save(Split("test", ROWS, None, None, None), torch.tensor([8.0, 16.0, 24.0004]), tmp_path)
    saved = json.loads((tmp_path / "predictions/test.json").read_text())
    assert saved == {"bits": [8.0, 16.0, 24.0], "bytes": [len(text.encode()) for text in ROWS["text"].to_pylist()]}


def test_empty_texts_are_left_out_and_counted(task_type):
    table, notes = task_type().check_rows(pa.table({"text": ["a", " ", ""]}), "here", True)
    assert table.num_rows == 1
    assert notes == ["left out: 2 with an empty text"]
    with pytest.raises(UserError, match="no column 'text'"):
        task_type().check_rows(pa.table({"body": ["a"]}), "here", True)


def test_windows_need_context(compose):
    with pytest.raises(UserError, match="eval_stride"):
        compose("task=igbo", "task.eval_stride=512")
