"""Activation checkpointing changes no number, whatever the method."""

import pytest
import torch

from adalora.fast import speed_up
from adalora.methods.discovery import create
from adalora.training.recompute import recompute_activations
from tests.methods.matrix import CONFIGS, placed
from tests.tiny import BATCHES, bart, classifier, targets_of, trained, wake

CASES = [(name, "deberta") for name in CONFIGS]
CASES += [(name, "bart") for name in ("adalora", "lora", "lorta", "lora_mini", "houlsby", "increlora")]


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


@pytest.mark.parametrize("name, backbone", CASES)
def test_gradients_are_the_same_bits(tiny_model, compose, name, backbone):
    found, deberta = [], backbone == "deberta"
    for again in (False, True):
        model = classifier(tiny_model) if deberta else bart(dropout=0.1, attention_dropout=0.1)
        method = attached(model, name, compose("task=sst2" if deberta else "model=bart_large", *placed(name)))
        speed_up(model, method)
        if again:
            recompute_activations(model)
        found.append(step(model, method, **BATCHES[backbone]))
    (loss, gradients, once), (same, others, twice) = found
    assert twice > once  # it did compute them again
    assert loss == same
    assert len(gradients) == len(others) > 0
    assert all(a.equal(b) for a, b in zip(gradients, others, strict=True))
