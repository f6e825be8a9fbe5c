"""Generation against the library's own, row by row."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import GenerationConfig

from tasks.summarization.generate import generate
from tests.tiny import bart

PAD, BOS, EOS = 1, 0, 2


def task(num_beams, max_target_length, **more):
    """What `generate` reads of a task, bart-large's own values where nothing else is given."""
    usual = {"min_length": 0, "length_penalty": 1.0, "early_stopping": True, "no_repeat_ngram": 3}
    return SimpleNamespace(num_beams=num_beams, max_target_length=max_target_length, **(usual | more))


@pytest.fixture(scope="module", params=["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
def model(request):
    """Random, wide weights in fp64: no two hypotheses are nearly equal, and sums may be in any order."""
    model = bart(
        encoder_attention_heads=4, init_std=0.6, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
        decoder_start_token_id=EOS, attn_implementation=request.param,
    )  # fmt: skip
    model.final_logits_bias[0, EOS] = 4.0  # so that some end early
    return model.requires_grad_(True)


def documents(count=14):
    draw = torch.Generator().manual_seed(1)
    return [[BOS, *torch.randint(3, 40, (2 + i * 5 % 17,), generator=draw).tolist(), EOS] for i in range(count)]


def batch(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": ids}


def ours(model, rows, decoding, order, batch_size=5, **more):
    loader = DataLoader([rows[i] for i in order], batch_size=batch_size, collate_fn=batch)
    accelerator = Accelerator(cpu=True)
    return generate(accelerator, model, accelerator.prepare(loader), torch.tensor(order), decoding, **more)


def theirs(model, row, decoding):
    """The library alone, its arguments by their names in the released script and in bart-large's configuration."""
    config = GenerationConfig(
        num_beams=decoding.num_beams, max_length=decoding.max_target_length, min_length=decoding.min_length,
        length_penalty=decoding.length_penalty, no_repeat_ngram_size=decoding.no_repeat_ngram, forced_bos_token_id=BOS,
        forced_eos_token_id=EOS, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, decoder_start_token_id=EOS,
        early_stopping=decoding.early_stopping and decoding.num_beams > 1,
    )  # fmt: skip
    inputs = torch.tensor([row])
    return model.generate(inputs, attention_mask=torch.ones_like(inputs), generation_config=config)[0].tolist()


def cut(ids):
    """Without the padding behind the end."""
    return ids[: 2 + ids[1:].index(EOS)]


DECODINGS = [
    task(1, 12),
    task(1, 12, no_repeat_ngram=0),
    task(4, 12),
    task(8, 16, early_stopping=False, length_penalty=2.0, no_repeat_ngram=2),
    task(3, 14, min_length=9),
]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_a_row_is_what_the_library_gives_for_it_alone(model, decoding):
    rows = documents()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found = ours(model, rows, decoding, order).tolist()
    expected = [theirs(model, row, decoding) for row in rows]
    assert [cut(ids) for ids in found] == [cut(ids) for ids in expected]
    assert all(set(ids[len(cut(ids)) :]) <= {PAD} for ids in found)
    assert all(ids[:2] == [EOS, BOS] for ids in found)


def test_rows_end_at_different_places(model):
    """What the comparison above rests on: some rows of a batch are done before others."""
    found = ours(model, documents(), DECODINGS[2], range(14)).tolist()
    assert len({len(cut(ids)) for ids in found}) > 2
    assert max(len(cut(ids)) for ids in found) == 12
    assert len({tuple(ids) for ids in found}) > 7  # and depend on the document


def test_any_order_and_batch_size_give_the_same_rows(model):
    rows, decoding = documents(), task(4, 10)
    straight = ours(model, rows, decoding, range(14), batch_size=14)
    order = torch.randperm(14, generator=torch.Generator().manual_seed(2)).tolist()
    for batch_size in (1, 4):
        found = ours(model, rows, decoding, order, batch_size)
        assert [cut(ids) for ids in found.tolist()] == [cut(ids) for ids in straight.tolist()]


def test_an_empty_summary(model):
    found = ours(model, documents(3), task(2, 3), range(3))
    assert found.tolist() == [[EOS, BOS, EOS]] * 3


def test_the_model_is_left_as_it_was(model):
    before = {name: (value.shape, value.sum().item()) for name, value in model.state_dict().items()}
    ours(model, documents(3), DECODINGS[2], range(3))
    assert {name: (value.shape, value.sum().item()) for name, value in model.state_dict().items()} == before
    assert all("forward" not in vars(module) for module in model.modules())
    rows = batch(documents(3))
    loss = model(**rows).loss  # trains as ever
    loss.backward()
    assert model.model.decoder.layers[0].encoder_attn.k_proj.weight.grad.abs().sum() > 0
    model.zero_grad()


def test_settings_beside_the_weights_have_no_part(model, monkeypatch):
    expected = ours(model, documents(3), DECODINGS[2], range(3))
    kept = GenerationConfig(repetition_penalty=9.0, num_beams=2, length_penalty=5.0)
    monkeypatch.setattr(model, "generation_config", kept)
    assert torch.equal(ours(model, documents(3), DECODINGS[2], range(3)), expected)
    assert model.generation_config is kept


def test_progress_is_told(model):
    told = []
    ours(model, documents(), task(1, 3), range(14), report=lambda *counts: told.append(counts))
    assert told == [(0, 14), (5, 14), (10, 14), (14, 14)]
