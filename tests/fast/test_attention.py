"""The faster disentangled attention against the library's eager one: outputs and gradients."""

import pytest
import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from adalora.backbones.position_query import bypass_position_query
from adalora.fast import swap
from adalora.fast.attention import SWAPS, bias, distance_buckets, read_first_token_only
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.discovery import create

MODULES = ("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj")


def pair(length, adapted=True, base_only=False, **options):
    """The same small model twice, with the library's attention and with ours."""
    models = []
    for exact in (False, True):
        torch.manual_seed(0)
        config = DebertaV2Config(**{
            "vocab_size": 50, "hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 3,
            "intermediate_size": 32, "max_position_embeddings": 512, "relative_attention": True,
            "position_buckets": 16, "share_att_key": True, "pos_att_type": "p2c|c2p", "norm_rel_ebd": "layer_norm",
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "type_vocab_size": 0,
            "initializer_range": 0.15, **options,
        })  # fmt: skip
        model = DebertaV2ForSequenceClassification(config)
        if adapted:
            model.requires_grad_(False)
            method = create(AdaLoRAConfig(init_rank=2, target_rank=1).with_steps(10))
            paths = [f"deberta.encoder.layer.{i}.{path}" for i in range(2) for path in MODULES]
            method.attach(model, {path: model.get_submodule(path) for path in paths}, 10)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter.copy_(torch.randn_like(parameter) / 8)
        if exact:
            swap(model, SWAPS)
        if base_only:
            bypass_position_query(model)
        models.append(model)
    return models


def compare(models, length, batch=3, tolerance=1e-5):
    torch.manual_seed(1)
    ids = torch.randint(1, 50, (batch, length))
    mask = torch.ones_like(ids)
    for row in range(1, batch):
        mask[row, max(1, length - row * (length // batch)) :] = 0
    outputs = []
    for model in models:
        out = model(ids, attention_mask=mask, output_hidden_states=True)
        real = out.hidden_states[-1][mask.bool()]
        (real.square().mean() + out.logits.square().mean()).backward()
        outputs.append((real, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (expected, theirs), (got, ours) = outputs
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    assert theirs.keys() == ours.keys()
    for name, gradient in theirs.items():
        largest = gradient.abs().max().item() + 1e-12
        assert (ours[name] - gradient).abs().max().item() <= tolerance * max(1, largest), name


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 17, 33, 64, 129, 300, 512])
def test_outputs_and_gradients_at_every_length(length):
    # the library takes the root of the scale in fp32, which is exact for this head size: 3 * 12 = 36
    compare([model.double() for model in pair(length)], length, tolerance=1e-11)


@pytest.mark.parametrize(
    "options",
    [
        {"share_att_key": False},
        {"pos_att_type": "c2p"},
        {"pos_att_type": "p2c"},
        {"position_buckets": -1},
        {"max_relative_positions": 8},
        {"norm_rel_ebd": "none"},
        {"position_buckets": 256},
    ],
    ids=str,
)
def test_other_kinds_of_disentangled_attention(options):
    compare(pair(40, **options), 40)


def test_adapters_beside_the_position_query():
    compare(pair(20, base_only=True), 20)


def test_all_parameters_trained():
    compare(pair(20, adapted=False), 20)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 300])
def test_a_classifier_whose_last_layer_computes_the_first_token_only(length):
    theirs, ours = (model.double() for model in pair(length))
    read_first_token_only(ours)
    torch.manual_seed(1)
    ids = torch.randint(1, 50, (3, length))
    mask = torch.ones_like(ids)
    mask[1:, max(1, length // 2) :] = 0
    outputs = []
    for model in (theirs, ours):
        logits = model(ids, attention_mask=mask).logits
        logits.square().sum().backward()
        outputs.append((logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (expected, gradients), (got, own) = outputs
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
    assert own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(own[name], gradient, rtol=1e-9, atol=1e-11)


def test_a_mask_in_fp16_makes_no_score_infinite():
    mask = torch.tensor([[[[1, 0], [0, 0]]]])
    least = bias(mask, 2, torch.float16)[0]
    assert (least - 100).isfinite().all()
    assert least.softmax(-1).tolist() == [[1, 0], [0.5, 0.5]]


def test_attention_dropout_is_kept():
    _, ours = pair(20, attention_probs_dropout_prob=0.5)
    ids = torch.randint(1, 50, (2, 20))
    assert not torch.equal(ours.train()(ids).logits, ours(ids).logits)
    assert torch.equal(ours.eval()(ids).logits, ours(ids).logits)


def test_attention_maps_come_from_the_library():
    theirs, ours = pair(9)
    ids = torch.randint(1, 50, (2, 9))
    expected, got = (model(ids, output_attentions=True).attentions for model in (theirs, ours))
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_training_after_an_evaluation_of_the_same_length():
    _, ours = pair(23)
    ids = torch.randint(1, 50, (2, 23))
    distance_buckets.cache_clear()
    with torch.inference_mode():
        ours(ids)
    ours(ids).logits.sum().backward()
