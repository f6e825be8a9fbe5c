"""Every method trains inside an autocast region as it does outside, whatever the model's precision."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from adalora.fast import speed_up
from adalora.methods.discovery import create
from adalora.training.optimizer import groups_of
from tests.methods.matrix import BUSY, CONFIGS, placed
from tests.tiny import INPUTS, classifier, targets_of, trained, wake

LABELS, STEPS, KINDS = torch.tensor([0, 1]), 5, ("nothing", "model", "loop")


def train(folder, config, modules, dtype, fast, autocast):
    """Train with autocast around `nothing`, the `model` or the `loop`. Returns losses, terms and parameters."""
    model = classifier(folder).to(dtype).train()
    method = create(config.with_steps(STEPS))
    method.attach(model, targets_of(model, modules), STEPS)
    wake(model)
    if fast:
        speed_up(model, method)
    optimizer = torch.optim.SGD(groups_of(model, method, 0.01), lr=0.01)
    losses, terms = [], []
    for t in range(STEPS):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast == "loop"):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast != "nothing"):
                logits = model(**INPUTS).logits
            losses.append(F.cross_entropy(logits.double(), LABELS))
            terms.append(method.regulariser())
            (losses[-1] + terms[-1]).backward()
            method.before_step(t, optimizer)
            optimizer.step()
            method.after_step(t)
            optimizer.zero_grad()
    method.check_end()
    assert all(p.dtype == dtype for p in trained(model))
    return torch.stack(losses), torch.stack(terms), torch.cat([p.detach().flatten() for p in trained(model)])


@pytest.mark.parametrize("fast", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_loop_inside_autocast_trains_as_one_outside(tiny_model, compose, name, dtype, fast):
    config = replace(CONFIGS[name], **BUSY.get(name, {}))
    modules = compose("task=sst2", *placed(name))
    alone, around_model, around_loop = (train(tiny_model, config, modules, dtype, fast, kind) for kind in KINDS)
    torch.testing.assert_close(around_loop[0][0], alone[0][0], rtol=0.1, atol=0.05)
    torch.testing.assert_close(around_loop[1][0], alone[1][0])  # the regulariser, in its parameters' precision
    for found, expected in zip(around_loop, around_model, strict=True):  # autograd's own products are bfloat16 there
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
