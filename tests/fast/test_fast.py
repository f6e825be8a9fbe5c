"""All methods with and without `speed_up`: the same outputs, gradients and trajectories."""

from dataclasses import replace

import pytest
import torch

from adalora.fast import speed_up
from adalora.methods.discovery import create
from tests.methods.matrix import CONFIGS
from tests.tiny import INPUTS, bart, classifier, targets_of, trained, wake

STEPS = 6
BUSY = {"lora": {"orthogonality": 0.1}, "increlora": {"target_rank": 3, "initial_steps": 1, "interval": 2}}
BATCHES = {
    "deberta": INPUTS | {"labels": torch.tensor([0, 1])},
    "bart": {"input_ids": torch.arange(4, 16).view(2, 6), "labels": torch.arange(20, 30).view(2, 5)},
}


def sides(folder, compose, name, backbone, dtype):
    """The same model plain and sped up, each with its method; without dropout. Attention has tests of its own."""
    config = replace(CONFIGS[name], **BUSY.get(name, {}))
    maps = compose("task=sst2" if backbone == "deberta" else "model=bart_large", f"method={config.name}")
    for fast in (False, True):
        model = (classifier(folder) if backbone == "deberta" else bart()).to(dtype)
        method = create(config.fitted(model.config).planned(STEPS))
        method.attach(model, targets_of(model, maps), STEPS)
        wake(model)
        torch._foreach_mul_([p.data for p in trained(model)], 0.3)
        if fast:
            speed_up(model, method, exact_attention=False)
        yield model, method


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("backbone", ["deberta", "bart"])
@pytest.mark.parametrize("name", CONFIGS)
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


@pytest.mark.parametrize("name", CONFIGS)
def test_trajectories_are_the_same(tiny_model, compose, name):
    found = []
    for model, method in sides(tiny_model, compose, name, "deberta", torch.float64):
        optimizer = torch.optim.SGD(trained(model), lr=0.01)
        for t in range(STEPS):
            (model(**BATCHES["deberta"]).loss + method.regulariser()).backward()
            method.before_step(t, optimizer)
            optimizer.step()
            method.after_step(t)
            optimizer.zero_grad()
        found.append(trained(model))
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)
