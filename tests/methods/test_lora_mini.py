"""LoRA-Mini against its four products written out; its frozen factors, and how they are saved."""

import pytest
import torch
from torch import nn

from adalora.errors import UserError
from adalora.methods.adapter import load_adapter, save_adapter
from adalora.methods.discovery import create
from adalora.methods.lora_mini.layer import LoRAMiniLinear
from adalora.methods.lora_mini.options import LoRAMiniConfig
from tests.tiny import increment


def layer(d_out, d_in, **options):
    torch.manual_seed(0)
    found = LoRAMiniLinear(nn.Linear(d_in, d_out).double().requires_grad_(False), LoRAMiniConfig(**options))
    nn.init.normal_(found.lora_B_inner)
    return found


def net(seed, **options):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 10), nn.Linear(10, 8)).requires_grad_(False)
    method = create(LoRAMiniConfig(**{"rank": 2, "inner_in": 3, "inner_out": 4} | options))
    method.attach(model, {"0": model[0], "1": model[1]}, 10)
    return model, method


@pytest.mark.parametrize("outer", ["orthonormal", "gaussian"])
def test_four_products_of_which_the_inner_two_are_trained(outer):
    mini = layer(10, 14, rank=2, inner_in=3, inner_out=5, alpha=7, outer=outer)
    x = torch.randn(4, 6, 14, dtype=torch.float64)
    steps = (mini.lora_A_outer, mini.lora_A_inner, mini.lora_B_inner, mini.lora_B_outer)
    assert [tuple(p.shape) for p in steps] == [(3, 14), (2, 3), (5, 2), (10, 5)]
    y = x
    for step in steps:
        y = y @ step.T
    torch.testing.assert_close(increment(mini, x), 3.5 * y)
    torch.testing.assert_close(mini.delta_weight(), 3.5 * steps[3] @ steps[2] @ steps[1] @ steps[0])
    assert {name for name, p in mini.named_parameters() if p.requires_grad} == {"lora_A_inner", "lora_B_inner"}


def test_outer_factors_are_orthonormal_or_gaussian_of_the_same_size():
    mini = layer(300, 400, rank=2, inner_in=60, inner_out=50)
    torch.testing.assert_close(mini.lora_A_outer @ mini.lora_A_outer.T, torch.eye(60).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(mini.lora_B_outer.T @ mini.lora_B_outer, torch.eye(50).double(), rtol=0, atol=1e-5)
    gaussian = layer(300, 400, rank=2, inner_in=60, inner_out=50, outer="gaussian")
    for name in ("lora_A_outer", "lora_B_outer"):
        ours, other = getattr(mini, name), getattr(gaussian, name)
        torch.testing.assert_close(ours.norm(), other.norm(), rtol=0.03, atol=0)
    assert 0.9 < mini.lora_A_inner.abs().max() * 60**0.5 <= 1


def test_modules_of_equal_shape_have_outer_factors_of_their_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    create(LoRAMiniConfig(rank=1, inner_in=2, inner_out=2)).attach(model, {"0": model[0], "1": model[1]}, 1)
    assert not torch.allclose(model[0].lora_A_outer, model[1].lora_A_outer)


def test_a_saved_adapter_brings_its_outer_factors(tmp_path):
    model, _ = net(seed=1)
    for module in model:
        nn.init.normal_(module.lora_B_inner)
    other, _ = net(seed=2)
    for mine, its in zip(other, model, strict=True):
        mine.weight, mine.bias = its.weight, its.bias
    x = torch.randn(3, 12)
    assert not torch.allclose(other(x), model(x))
    save_adapter(tmp_path / "adapter", model, {})
    load_adapter(tmp_path / "adapter", other)
    assert torch.equal(other(x), model(x))


def test_a_checkpoint_brings_its_outer_factors():
    """Drawn with another number of threads, their last bits differ."""
    (model, method), (other, resumed) = net(seed=1), net(seed=2)
    resumed.load_state_dict(method.state_dict())
    for mine, theirs in zip(model, other, strict=True):
        assert torch.equal(mine.lora_A_outer, theirs.lora_A_outer)
        assert torch.equal(mine.lora_B_outer, theirs.lora_B_outer)


@pytest.mark.parametrize(
    "given, size, sizes",
    [
        ({}, 9, (5, 9, 9)),
        ({}, 50, (20, 20, 20)),  # the smallest side
        ({"rank": 6}, 3, (6, 8, 8)),
        ({"inner_in": 4}, 12, (4, 4, 12)),
        ({"inner_in": 4, "inner_out": 6}, 3, (3, 4, 6)),
        ({"inner_in": 4, "inner_out": 6}, 9, (4, 4, 6)),
    ],
)
def test_what_is_open_follows_the_size(given, size, sizes):
    found = LoRAMiniConfig(**given).with_size(size, {"a": (20, 30)})
    assert (found.rank, found.inner_in, found.inner_out) == sizes


def test_a_subspace_wider_than_a_side_is_refused():
    config = LoRAMiniConfig(rank=1, inner_in=5, inner_out=5)
    with pytest.raises(UserError, match=r"method\.inner_out=5"):
        config.count({"a": (4, 8)})
    with pytest.raises(UserError, match=r"method\.inner_in=5"):
        LoRAMiniLinear(nn.Linear(4, 8), config)
