"""A training step never waits for the device: nothing reads a value from a tensor."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from adalora.fast import speed_up
from adalora.methods.allocation import prune
from adalora.methods.discovery import create
from tasks.classification.task_type import task_loss
from tests.methods.matrix import CONFIGS
from tests.tiny import INPUTS, classifier, targets_of, trained


class NoReads(TorchDispatchMode):
    """Fails where a value is read, which on a GPU waits for all launched work."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is not torch.ops.aten._local_scalar_dense.default, "a step waits for the device"
        return function(*args, **(kwargs or {}))


def test_the_check_finds_what_waits():
    scores = torch.rand(4)
    for wait in (lambda: scores[scores.argmax()], lambda: scores.sum().item(), lambda: bool(scores.any())):
        with pytest.raises(AssertionError, match="waits for the device"), NoReads():
            wait()


@pytest.mark.parametrize("budget", [0, 3, 6])
def test_pruning_does_not_wait(budget):
    scores = torch.rand(2, 3)
    with NoReads():
        mask, threshold = prune(scores, budget)
    assert mask.sum() == budget
    expected = scores.flatten().sort().values[5 - budget] if budget < 6 else torch.tensor(float("nan"))
    torch.testing.assert_close(threshold, expected, equal_nan=True)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "increlora"])  # its growth waits, by design
def test_no_step_of_a_method_waits(tiny_model, compose, name):
    total = 12  # AdaLoRA and SoRA prune between step 1 and the last but one, PRILoRA at the end
    model = classifier(tiny_model).float().train()
    method = create(CONFIGS[name].with_steps(total))
    method.attach(model, targets_of(model, compose("task=sst2", f"method={CONFIGS[name].name}")), total)
    speed_up(model, method)
    labels = torch.tensor([0, 1])
    optimizer = torch.optim.AdamW(trained(model), lr=0.01, fused=True)

    def step(t):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**INPUTS).logits
        (task_loss(logits.float(), labels) + method.regulariser()).backward()
        nn.utils.clip_grad_norm_(trained(model), 1.0)
        method.before_step(t, optimizer)
        optimizer.step()
        method.after_step(t)
        optimizer.zero_grad()

    step(0)  # of the length's distances it makes tables once
    for t in range(1, total):
        with NoReads():
            step(t)
