"""The product of a module with a low-rank increment: values and gradients against autograd, and cast weights."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adalora.fast import speed_up
from adalora.fast.linear import low_rank_linear
from adalora.fast.together import FormedFactors
from adalora.methods.discovery import create
from adalora.methods.linear import merge, merged
from adalora.methods.lora.options import LoRAConfig
from tests.methods.matrix import CONFIGS
from tests.tiny import trained, wake

FORMED = ("adalora", "adalora method.form=doublets", "lora", "sora", "prilora")
ALONE = ("increlora", "lora_mini")


def plain(x, W, b, A, B, z=None):
    return F.linear(x, W, b) + F.linear(F.linear(x if z is None else z, A), B)


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("trained", ["xAB", "AB", "xWbAB", "B", "xA"])
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_values_and_gradients_are_those_of_the_plain_products(dropped, bias, trained, rank):
    torch.manual_seed(0)
    shapes = {"x": (2, 5, 7), "W": (6, 7), "b": (6,), "A": (rank, 7), "B": (6, rank), "z": (2, 5, 7)}
    values = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    values = {
        name: None if (name == "b" and not bias) or (name == "z" and not dropped) else v for name, v in values.items()
    }
    outcomes = []
    for product in (plain, low_rank_linear):
        inputs = {name: None if v is None else v.clone() for name, v in values.items()}
        for name, v in inputs.items():
            if v is not None:
                v.requires_grad_(name in trained or (name == "z" and "x" in trained))
        y = product(*inputs.values())
        (y * torch.arange(y.numel(), dtype=y.dtype).view_as(y).sin()).sum().backward()
        outcomes.append((y.detach(), {name: v.grad for name, v in inputs.items() if v is not None}))
    (expected, theirs), (got, ours) = outcomes
    torch.testing.assert_close(got, expected)
    for name, gradient in theirs.items():
        assert (gradient is None) == (ours[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(ours[name], gradient)


def toy(name, fast=True):
    """A model of three modules, its method, and its input."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 8)).requires_grad_(False)
    method = create(CONFIGS[name].with_steps(10))
    method.attach(model, {str(i): model[i] for i in (0, 2, 4)}, 10)
    if fast:
        speed_up(model, method)
    wake(model)
    return model, method, torch.randn(4, 8)


@pytest.mark.parametrize("name", FORMED)
def test_factors_formed_together_are_those_formed_alone(name):
    results = []
    for together in (True, False):
        model, _, x = toy(name)
        if not together:
            model._forward_pre_hooks.clear()
        y = model(x)
        y.square().sum().backward()
        results.append((y, [p.grad for p in trained(model)]))
    (y, gradients), (expected, theirs) = results
    torch.testing.assert_close(y, expected)
    for gradient, other in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("name", FORMED)
def test_a_merged_model_has_no_hook_left(name):
    model, _, x = toy(name)
    expected = model.eval()(x)
    merge(model)
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    torch.testing.assert_close(model(x), expected)


def test_nothing_is_formed_while_the_modules_are_merged(monkeypatch):
    model, _, x = toy("adalora")
    formed = []
    monkeypatch.setattr(FormedFactors, "results", lambda self: formed.append(1))
    with merged(model):
        model(x)
    assert not formed


def test_a_term_of_the_loss_shares_the_stacks_of_the_forward_pass_and_sees_every_change():
    model, method, x = toy("adalora")
    first = next(iter(method.modules.values()))
    results = []
    for shared in (True, False):
        y = model(x)
        if not shared:
            method.together.kept = None
        (y.square().sum() + method.regulariser()).backward()
        results.append([p.grad.clone() for p in trained(model)])
        model.zero_grad()
    for gradient, other in zip(*results, strict=True):
        torch.testing.assert_close(gradient, other)
    model(x)
    before = method.regulariser()
    assert torch.equal(method.regulariser(), before)  # asked for twice after one pass
    model(x)
    with torch.no_grad():
        first.lora_A.mul_(2)
    assert method.regulariser() > before  # the parameters changed after the pass
    with torch.no_grad():
        model(x)
    assert method.regulariser().requires_grad  # the pass kept no graph


@pytest.mark.parametrize("name", ALONE + FORMED)
def test_a_model_can_be_copied_after_a_training_pass_and_the_copy_is_on_its_own(name):
    model, _, x = toy(name)
    y = model(x)
    copied = deepcopy(model)
    torch.testing.assert_close(copied(x), y)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    torch.testing.assert_close(copied(x), y)


def low(model, x):
    with torch.autocast("cpu", torch.bfloat16):
        return model(x)


def test_under_autocast_weights_are_cast_anew_when_they_change():
    model, _, x = toy("lora")
    before = low(model, x)
    assert torch.equal(low(model, x), before)
    with torch.no_grad():
        model[0].weight.add_(1)  # in place, as load_state_dict does
    changed = low(model, x)
    assert not torch.equal(changed, before)
    with torch.no_grad():
        model[0].weight.sub_(1)
    torch.testing.assert_close(low(model, x), before)


def test_under_autocast_a_merged_evaluation_uses_the_merged_weights_each_time():
    model, _, x = toy("lora")
    for _ in range(3):  # of equal sizes, so that a new tensor may lie where an old one did
        expected = low(model, x)
        with merged(model), torch.inference_mode():
            torch.testing.assert_close(low(model, x), expected, rtol=0.05, atol=0.05)
        assert torch.equal(low(model, x), expected)
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.mul_(-1.5)


def test_frozen_weights_are_cast_once_a_training_and_the_head_s_at_every_use():
    model, _, x = toy("lora")
    low(model, x)
    casts = [model[i].copies[2][0] for i in (0, 2, 4)]
    low(model, x)
    assert all(model[i].copies[2][0] is cast for i, cast in zip((0, 2, 4), casts, strict=True))
    model[0].weight.requires_grad_()
    low(model, x).sum().backward()
    assert model[0].weight.grad is not None


def test_training_after_an_evaluation_in_inference_mode():
    model, _, x = toy("lora")
    with torch.inference_mode():
        low(model, x)
    low(model, x).sum().backward()


def test_bf16_is_as_near_to_fp32_as_the_library_s_products():
    torch.manual_seed(0)
    base = nn.Linear(64, 48).requires_grad_(False)
    model = nn.Sequential(base)
    create(LoRAConfig(rank=4, alpha=8)).attach(model, {"0": base}, 10)
    nn.init.normal_(model[0].lora_B)
    x = torch.randn(32, 64)
    exact = model(x)
    ours = low(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = plain(x, base.weight, base.bias, model[0].lora_A * model[0].scale, model[0].lora_B)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    assert (ours - exact).abs().mean() <= 1.05 * (theirs - exact).abs().mean()
