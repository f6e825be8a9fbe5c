"""All methods with and without `speed_up`: the same outputs, gradients and trajectories."""

import pickle
from dataclasses import replace

import pytest
import torch
from transformers import DebertaV2ForSequenceClassification

from adalora.backbones.position_query import bypass_position_query
from adalora.fast import speed_up
from adalora.methods.discovery import create
from adalora.methods.linear import merged
from adalora.training.optimizer import groups_of
from adalora.training.recompute import recompute_activations
from tests.methods.matrix import BUSY, CONFIGS, LINEAR, placed
from tests.tiny import BATCHES, INPUTS, Chain, bart, classifier, targets_of, trained, wake

STEPS = 6


def sides(folder, compose, name, backbone, dtype):
    """The same model plain and sped up, each with its method; without dropout."""
    config = replace(CONFIGS[name], **BUSY.get(name, {}))
    modules = compose("task=sst2" if backbone == "deberta" else "model=bart_large", *placed(name))
    for fast in (False, True):
        model = (classifier(folder) if backbone == "deberta" else bart()).to(dtype)
        method = create(config.with_backbone(model.config).with_steps(STEPS))
        method.attach(model, targets_of(model, modules), STEPS)
        wake(model)
        torch._foreach_mul_([p.data for p in trained(model)], 0.3)
        if fast:
            speed_up(model, method, exact_attention=dtype == torch.float32)  # it is as exact as the library's in fp64
        yield model, method


@pytest.mark.parametrize("backbone", ["deberta", "bart"])
@pytest.mark.parametrize(
    "name, dtype",
    [(name, torch.float64) for name in LINEAR]  # elsewhere nothing is faster in fp64
    + [pytest.param(name, torch.float32, marks=pytest.mark.slow) for name in CONFIGS],
    ids=str,
)
def test_loss_and_gradients_are_the_same(tiny_model, compose, name, backbone, dtype):
    found = []
    for model, method in sides(tiny_model, compose, name, backbone, dtype):
        loss = model(**BATCHES[backbone]).loss + method.regulariser()
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in trained(model))])
    bound = 1e-5 if dtype == torch.float32 else 1e-11
    largest = max(plain.abs().max().item() for plain in found[0])
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=bound, atol=bound * largest)


@pytest.mark.parametrize("name", LINEAR)
def test_trajectories_are_the_same(tiny_model, compose, name):
    found = []
    for model, method in sides(tiny_model, compose, name, "deberta", torch.float64):
        optimizer = torch.optim.SGD(groups_of(model, method, 0.01), lr=0.01)
        for t in range(STEPS):
            (model(**BATCHES["deberta"]).loss + method.regulariser()).backward()
            method.before_step(t, optimizer)
            optimizer.step()
            method.after_step(t)
            optimizer.zero_grad()
        found.append(trained(model))
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)


def fast_chain(name, **options):
    """A sped-up model of three modules, and its method."""
    torch.manual_seed(0)
    model = Chain([8, 8, 8, 6])
    method = create(replace(CONFIGS[name], **options).with_steps(STEPS))
    method.attach(model, model.targets(), STEPS)
    wake(model)
    speed_up(model, method)
    return model, method, torch.randn(4, 8, dtype=torch.float64)


@pytest.mark.parametrize("name", ["adalora", "lora", "sora", "increlora", "lora_mini", "mora", "melora"])
def test_a_model_can_be_pickled_called_on_one_row_and_moved(name):
    model, _, x = fast_chain(name, **({"minis": 2} if name == "melora" else {}))
    y = model(x)
    copied = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(copied(x), y)
    torch.testing.assert_close(copied(x[0]), y[0])
    torch.testing.assert_close(copied.float()(x.float()).double(), y, rtol=1e-4, atol=1e-4)


def test_a_second_call_changes_nothing():
    model, method, _ = fast_chain("adalora")
    hooks = len(model._forward_pre_hooks), len(model._forward_hooks)
    speed_up(model, method)
    assert (len(model._forward_pre_hooks), len(model._forward_hooks)) == hooks == (1, 1)


def test_each_module_keeps_its_own_scale():
    model, _, x = fast_chain("lora")
    model.layers[1].scale /= 2
    with merged(model):
        expected = model(x)
    torch.testing.assert_close(model(x), expected)


def test_a_regulariser_sees_a_change_of_any_factor():
    model, method, x = fast_chain("adalora")
    model(x)
    with torch.no_grad():
        model.layers[2].lora_B.mul_(2)
    (Q, P), *_ = (pair for pair in method.factors() if pair[1].shape[1] == 6)
    assert torch.equal(P[0], model.layers[2].lora_B)
    assert torch.equal(Q[0], model.layers[2].lora_A)


def test_a_pass_without_a_graph_between_forward_and_backward(tiny_model, compose):
    gradients = []
    for between in (False, True):
        model = classifier(tiny_model).train()
        method = create(CONFIGS["adalora"].with_steps(STEPS))
        method.attach(model, targets_of(model, compose("task=sst2")), STEPS)
        wake(model)
        speed_up(model, method)
        recompute_activations(model)
        torch.manual_seed(1)
        loss = model(**BATCHES["deberta"]).loss
        if between:
            with torch.no_grad():
                model(**INPUTS)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trained(model)]))
    assert torch.equal(*gradients)


def test_the_last_layer_is_whole_where_a_head_reads_more_than_the_first_token(tiny_model, compose):
    class Mean(DebertaV2ForSequenceClassification):
        def forward(self, **inputs):
            return self.classifier(self.deberta(**inputs)[0].mean(1))

    model = classifier(tiny_model)
    model.__class__ = Mean
    method = create(CONFIGS["lora"])
    method.attach(model, targets_of(model, compose("task=sst2")), STEPS)
    wake(model)
    before = model(**INPUTS)
    speed_up(model, method)
    torch.testing.assert_close(model(**INPUTS), before, rtol=1e-6, atol=1e-6)


def test_the_position_query_can_be_bypassed_before_or_after(tiny_model, compose):
    logits = []
    for early in (False, True):
        model = classifier(tiny_model)
        method = create(CONFIGS["lora"])
        method.attach(model, targets_of(model, compose("task=sst2")), STEPS)
        wake(model)
        if early:
            bypass_position_query(model)
        speed_up(model, method)
        if not early:
            bypass_position_query(model)
        logits.append(pickle.loads(pickle.dumps(model))(**INPUTS).logits)
    assert torch.equal(*logits)


@pytest.mark.parametrize("fast", [False, True])
def test_what_changes_inside_a_merged_block_stays(fast):
    model, _, x = fast_chain("lora", dropout=0.5)
    if not fast:
        model = Chain([8, 8, 8, 6])
        create(replace(CONFIGS["lora"], dropout=0.5)).attach(model, model.targets(), STEPS)
        wake(model)
    model.train()
    with merged(model):
        model.eval()
        expected = model(x)
        assert {name for name, _ in model.named_parameters()} > {"layers.0.lora_A"}
        copy = pickle.loads(pickle.dumps(model.state_dict()))
    torch.testing.assert_close(model(x), expected)
    model.load_state_dict(copy)
