"""Cheap dropout against torch's: rate, scale, gradient, and what it leaves alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adalora.fast import swap
from adalora.fast.dropout import SWAPS, Dropout, dropout

TYPES = (torch.float32, torch.float64, torch.bfloat16)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1 / 3])
def test_entries_fall_out_at_the_rate_asked_for(p):
    torch.manual_seed(0)
    n = 4_000_000
    dropped = (dropout(torch.ones(n), p) == 0).sum().item()
    assert abs(dropped - n * p) < 5 * math.sqrt(n * p * (1 - p))


def test_every_lane_of_a_draw_falls_out_alike():
    torch.manual_seed(0)
    n = 1_000_000
    for share in (dropout(torch.ones(n, 4), 0.1) == 0).double().mean(dim=0).tolist():
        assert abs(share - 0.1) < 5 * math.sqrt(0.09 / n)


def test_neighbours_are_independent():
    torch.manual_seed(0)
    kept = (dropout(torch.ones(1_000_000), 0.5) != 0).double() * 2 - 1
    for distance in (1, 2, 3, 4, 768):
        assert abs((kept[distance:] * kept[:-distance]).mean()) < 5e-3


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 4, 5)])
def test_what_stays_is_scaled_so_that_the_mean_stays_and_so_is_its_gradient(shape, dtype):
    torch.manual_seed(0)
    x = torch.rand(shape, dtype=dtype).add_(0.5).requires_grad_()
    y = dropout(x, 0.1)
    assert y.dtype == dtype and y.shape == x.shape
    kept, p = y != 0, round(0.1 * 2**16) / 2**16
    torch.testing.assert_close(y, x.detach() * kept / (1 - p))
    y.sum().backward()
    torch.testing.assert_close(x.grad, kept / torch.tensor(1 - p, dtype=dtype), check_dtype=False)


def test_in_bf16_the_scale_is_not_rounded_to_bf16():
    torch.manual_seed(0)
    x = torch.rand(1_000_000).add_(0.5).bfloat16()
    y = dropout(x, 0.1)
    kept = y != 0
    factor = (y[kept].double().sum() / x[kept].double().sum()).item()
    assert abs(factor - 1 / 0.9) < 1e-4 < abs(torch.tensor(1 / 0.9).bfloat16().item() - 1 / 0.9)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_rates_of_0_and_1_are_torch_s(p):
    x = torch.randn(10)
    assert torch.equal(dropout(x, p), F.dropout(x, p))


def test_the_generator_decides():
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(torch.ones(64), 0.5))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_view_that_is_not_contiguous():
    torch.manual_seed(0)
    x = torch.rand(6, 8).add_(0.5)
    y = dropout(x.T, 0.5)
    assert torch.equal(y[y != 0], (x.T * 2)[y != 0]) and y.shape == (8, 6)


def test_modules_are_replaced_with_their_rate_and_mode():
    model = nn.Sequential(nn.Dropout(0.3), nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2))).eval()
    swap(model, SWAPS)
    assert [type(model[0]), type(model[1][0])] == [Dropout, Dropout]
    assert (model[0].p, model[1][0].p, model[0].training) == (0.3, 0.0, False)
    x = torch.randn(3, 2)
    assert torch.equal(model[0](x), x)
