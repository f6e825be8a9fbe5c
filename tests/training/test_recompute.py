"""Activation checkpointing changes no number, whatever the method."""

import pytest
import torch

from adalora.fast import speed_up
from adalora.methods.discovery import create
from adalora.training.recompute import recompute_activations
from tests.methods.matrix import CONFIGS
from tests.tiny import INPUTS, bart, classifier, targets_of, trained, wake

LABELS = torch.tensor([0, 1])


def step(model, method, **batch):
    """Loss and gradients of a training step with dropout, and how often the layers were computed."""
    count = []
    for name, module in model.named_modules():
        if name.endswith(("0.attention.self.query_proj", "decoder.layers.0.self_attn.q_proj")):
            module.register_forward_hook(lambda *args: count.append(1))
    model.train()
    torch.manual_seed(3)
    loss = model(**batch).loss + method.regulariser()
    loss.backward()
    return loss, [p.grad.clone() for p in trained(model) if p.grad is not None], len(count)


def attached(model, name, config):
    """`model` with a method whose increment isn't 0, with dropout on its input where it has one."""
    method = create(CONFIGS[name].with_steps(20))
    method.attach(model, targets_of(model, config), total_steps=20)
    wake(model)
    return method


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_the_same_bits_in_deberta(tiny_model, compose, name):
    found = []
    for again in (False, True):
        model = classifier(tiny_model)
        model.config.hidden_dropout_prob = 0.1
        method = attached(model, name, compose("task=sst2", f"method={CONFIGS[name].name}"))
        speed_up(model, method)
        if again:
            recompute_activations(model)
        found.append(step(model, method, **INPUTS, labels=LABELS))
    (loss, gradients, once), (same, others, twice) = found
    assert twice > once  # it did compute them again
    assert loss == same
    assert len(gradients) == len(others) > 0
    assert all(a.equal(b) for a, b in zip(gradients, others, strict=True))


@pytest.mark.parametrize("name", ["adalora", "lora", "lorta", "lora_mini", "houlsby", "increlora"])
def test_gradients_are_the_same_bits_in_bart(compose, name):
    batch = {"input_ids": torch.arange(4, 16).view(2, 6), "labels": torch.arange(20, 30).view(2, 5)}
    found = []
    for again in (False, True):
        model = bart(dropout=0.1, attention_dropout=0.1)
        method = attached(model, name, compose("model=bart_large", f"method={CONFIGS[name].name}"))
        speed_up(model, method)
        if again:
            recompute_activations(model)
        found.append(step(model, method, **batch))
    (loss, gradients, once), (same, others, twice) = found
    assert twice > once
    assert loss == same
    assert all(a.equal(b) for a, b in zip(gradients, others, strict=True))
