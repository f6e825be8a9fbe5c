"""SoRA against the authors' layer and optimizers (shared/golden), the proximal operator, and its budget."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from adalora.errors import UserError
from adalora.methods.sora.layer import (
    GatedLinear,
    SoRA,
    released_threshold,
    soft_threshold,
    step_as_transformers_4,
    survivors,
)
from adalora.methods.sora.options import SoRAConfig
from adalora.training import checkpoint
from adalora.training.optimizer import build_optimizer, linear, set_lr
from tests.tiny import Chain, training

EXACT = {"rtol": 0, "atol": 1e-10}


def attached(net, method, total):
    method.attach(net, net.targets(), total)
    return method


# -- the authors' code


def test_the_layer_is_the_authors(golden):
    arrays, config = golden("sora_a")
    of = {name.partition("/")[2]: torch.tensor(arrays[name]) for name in arrays.files if name.startswith("linear/")}
    sizes = config["linear"]
    base = nn.Linear(sizes["in_features"], sizes["out_features"], dtype=torch.float64).requires_grad_(False)
    layer = GatedLinear(base, SoRAConfig(max_rank=sizes["r"], alpha=sizes["lora_alpha"]))
    with torch.no_grad():
        for name, key in {"weight": "weight", "bias": "bias", "lora_A": "A", "lora_B": "B", "gate": "gate"}.items():
            getattr(layer, name).copy_(of[key])
    x = of["x"].requires_grad_(True)
    y = layer(x)
    (y * of["G"]).sum().backward()
    torch.testing.assert_close(y, of["y"], **EXACT)
    torch.testing.assert_close(layer.delta_weight(), of["delta_weight"], **EXACT)
    for found, key in ((layer.lora_A, "A"), (layer.lora_B, "B"), (layer.gate, "gate"), (x, "x")):
        torch.testing.assert_close(found.grad, of[f"grad_{key}"], **EXACT)


@pytest.mark.parametrize("number", [0, 1])
def test_the_released_trajectory_is_the_authors(golden, number):
    arrays, config = golden("sora_a")
    run = config["trajectories"][number]
    of = {name[3:]: torch.tensor(arrays[name]) for name in arrays.files if name.startswith(f"t{number}/")}
    total, warmup = run["steps"], run["steps"] * run["warmup_ratio"]
    net = Chain([run["d_in"], run["d_mid"], run["d_out"]])
    released = SoRAConfig(
        max_rank=run["r"], alpha=run["lora_alpha"], xi=run["threshold"], penalty=run["penalty"],
        gate_eps=run["gate_epsilon"], compat="released",
    )  # fmt: skip
    method = attached(net, SoRA(released), total)
    with torch.no_grad():
        for at, layer in zip(("l1", "l2"), net.layers, strict=True):
            for name, key in {"weight": "weight", "bias": "bias", "lora_A": "A", "lora_B": "B", "gate": "gate"}.items():
                getattr(layer, name).copy_(of[f"init/{at}/{key}"])
    optimizer = build_optimizer(net, method, training(run["lr"], weight_decay=run["weight_decay"]))
    trained = [p for p in net.parameters() if p.requires_grad]
    seen = {key: [] for key in ("loss", "task_loss", "grad_norm")}
    before, after = [], []
    for t in range(total):
        set_lr(optimizer, t, total, math.ceil(warmup))
        optimizer.param_groups[-1]["lr"] = run["lr"] * linear(t, total, math.floor(warmup))  # D-sora-warmup
        for group, key in zip(optimizer.param_groups, ("main", "gate"), strict=True):
            assert group["lr"] == pytest.approx(of[f"traj/lr_{key}"][t].item(), rel=1e-12)
        task_loss = nn.functional.mse_loss(net(of["x"][t]), of["target"][t])
        loss = task_loss + method.regulariser()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained, run["max_grad_norm"])
        method.before_step(t, optimizer)
        optimizer.step()
        before.append(torch.stack([layer.gate.detach() for layer in net.layers]))
        method.after_step(t)
        after.append(torch.stack([layer.gate.detach() for layer in net.layers]))
        optimizer.zero_grad()
        for key, value in zip(seen, (loss, task_loss, norm), strict=True):
            seen[key].append(value.item())
    for key, found in seen.items():
        np.testing.assert_allclose(found, of[f"traj/{key}"], **EXACT, err_msg=key)
    for i, (at, layer) in enumerate(zip(("l1", "l2"), net.layers, strict=True)):
        moved, gates = torch.stack(before)[:, i], torch.stack(after)[:, i]
        torch.testing.assert_close(moved, of[f"traj/{at}/gate_before_threshold"], **EXACT)
        torch.testing.assert_close(gates, of[f"traj/{at}/gate"], **EXACT)
        assert torch.equal(gates == 0, of[f"traj/{at}/gate"] == 0)
        torch.testing.assert_close(layer.lora_A.detach(), of[f"final/{at}/A"], **EXACT)
        torch.testing.assert_close(layer.lora_B.detach(), of[f"final/{at}/B"], **EXACT)
        assert method.ranks()[f"layers.{i}"] == (of[f"traj/{at}/gate"][-1] != 0).sum()
    assert sum(method.ranks().values()) == 2 * run["r"] - run["events"]["zero_at_end"]


# -- the operators


@pytest.mark.parametrize("xi", [0.0, 0.3, 1.1])
def test_the_threshold_is_the_proximal_operator(xi):
    """argmin_u (u - v)^2 / 2 + xi |u|, by numerical minimisation and by its optimality condition."""
    v = torch.linspace(-2, 2, 41, dtype=torch.float64)
    found = soft_threshold(v, torch.tensor(xi, dtype=torch.float64))
    for value, u in zip(v.tolist(), found.tolist(), strict=True):
        best = minimize_scalar(
            lambda u, v=value: (u - v) ** 2 / 2 + xi * abs(u), bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}
        )
        assert u == pytest.approx(best.x, abs=1e-6)
        assert u - value + xi * np.sign(u) == pytest.approx(0, abs=1e-12) if u else abs(value) <= xi + 1e-12


def test_the_released_threshold_is_its_three_assignments():
    xi = 0.5
    v = torch.cat([torch.linspace(-2, 2, 81, dtype=torch.float64), torch.tensor([xi, -xi, 2 * xi, -2 * xi])])
    expected = []
    for value in v.tolist():
        if value > xi:
            value -= xi
        if value < -xi:
            value += xi
        if abs(value) < xi:
            value = 0.0
        expected.append(value)
    found = released_threshold(v, torch.tensor(xi, dtype=torch.float64))
    assert found.tolist() == expected
    between = (v.abs() > xi) & (v.abs() < 2 * xi)
    assert found[between].count_nonzero() == 0
    assert soft_threshold(v, torch.tensor(xi))[between].count_nonzero() == between.sum()
    assert torch.equal(released_threshold(v, torch.tensor(0.0)), v)


def test_the_adamw_of_transformers_4_by_its_formula():
    torch.manual_seed(0)
    lr, beta1, beta2, eps, decay = 0.1, 0.9, 0.999, 1e-3, 0.2
    p = nn.Parameter(torch.randn(5, dtype=torch.float64))
    expected, m, v = p.detach().clone(), 0, 0
    optimizer = torch.optim.AdamW([p], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay)
    for t in range(6):
        p.grad = torch.randn_like(p)
        m, v = beta1 * m + (1 - beta1) * p.grad, beta2 * v + (1 - beta2) * p.grad**2
        step = lr * math.sqrt(1 - beta2 ** (t + 1)) / (1 - beta1 ** (t + 1))
        expected = expected - step * m / (v.sqrt() + eps)
        expected = expected - lr * decay * expected
        (group,) = optimizer.param_groups
        group["lr"] = lr
        step_as_transformers_4(group, t)
        optimizer.step()
        torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=1e-13)


# -- the budget


def test_the_survivors_are_the_largest_gates_nearest_to_the_budget():
    torch.manual_seed(0)
    costs = torch.tensor([10, 23, 14])
    sizes = torch.rand(3, 4)
    cost = costs.repeat_interleave(4).tolist()
    order = sorted(range(12), key=lambda i: -sizes.flatten()[i])
    prefixes = [order[:k] for k in range(13)]
    for budget in range(0, 4 * 47 + 1):
        found = set(survivors(sizes, costs, budget).flatten().nonzero().flatten().tolist())
        assert found in map(set, prefixes)
        off = abs(sum(cost[i] for i in found) - budget)
        assert off == min(abs(sum(cost[i] for i in prefix) - budget) for prefix in prefixes)


def test_equal_gates_go_in_the_order_of_module_and_slot():
    assert survivors(torch.ones(2, 3), torch.tensor([1, 1]), 4).tolist() == [[True] * 3, [True, False, False]]


def trained(config, dims=(10, 14, 6, 9), total=40, steps=range(40), state=None, seed=0):
    """A small training; yields (t, gates after the optimizer, method) after each step."""
    torch.manual_seed(seed)
    net = Chain(dims)
    method = attached(net, SoRA(config.with_steps(total)), total)
    optimizer = build_optimizer(net, method, training(0.05, weight_decay=0.1))
    x, y = torch.randn(total, 8, dims[0]).double(), torch.randn(total, 8, dims[-1]).double()
    if state is not None:
        checkpoint.restore(*state, net, optimizer, method)
    for t in steps:
        set_lr(optimizer, t, total, 4)
        (nn.functional.mse_loss(net(x[t]), y[t]) + method.regulariser()).backward()
        method.before_step(t, optimizer)
        optimizer.step()
        moved = torch.stack([layer.gate.detach().clone() for layer in net.layers])
        set_lr(optimizer, t + 1, total, 4)
        method.after_step(t)
        optimizer.zero_grad()
        yield t, moved, method, net, optimizer


@pytest.mark.parametrize("compat", ["paper", "released"])
def test_every_step_keeps_the_schedule_s_parameters_by_the_lowest_threshold(compat):
    config = SoRAConfig(max_rank=6, target_rank=1.5, initial_steps=5, final_steps=10, compat=compat)
    costs = torch.tensor([24, 20, 15])
    operator = soft_threshold if compat == "paper" else released_threshold
    b_0, b_T = 6 * 59, round(1.5 * 59)
    final = None
    for t, moved, method, net, _ in trained(config):
        progress = min(1, max(0, (t - 5) / (40 - 10 - 5)))
        budget = int(b_T + (b_0 - b_T) * (1 - progress) ** 3)
        assert abs(method.kept() - budget) <= 24 / 2
        gates = torch.stack([layer.gate.detach() for layer in net.layers])
        assert method.kept() == (gates.count_nonzero(1) * costs).sum()
        if 5 < t <= 31:  # the first final step is the last that thresholds
            xi = method.xi
            torch.testing.assert_close(gates, operator(moved, xi) * (gates != 0), rtol=0, atol=1e-15)
            if xi > 0:  # anything lower keeps more
                assert operator(moved, xi * (1 - 1e-9)).count_nonzero() > gates.count_nonzero()
        if t > 30:
            held = final is not None
            final = gates != 0 if final is None else final
            assert not held or torch.equal(gates, moved * final)  # the others are held, and none shrinks
    assert method.metrics()["kept"] == method.kept() == sum(costs * torch.tensor([*method.ranks().values()]))


def test_at_the_maximum_rank_nothing_is_thresholded():
    config = SoRAConfig(max_rank=4, target_rank=4)
    for _, moved, method, net, _ in trained(config):  # noqa: B007
        assert torch.equal(moved, torch.stack([layer.gate.detach() for layer in net.layers]))
    assert set(method.ranks().values()) == {4}


def test_a_threshold_that_is_given_is_constant_or_follows_the_learning_rate():
    for _, _, method, *_ in trained(SoRAConfig(max_rank=4, xi=0.03)):
        assert method.xi == 0.03
    assert method.kept() < 4 * 59
    for t, moved, method, net, _ in trained(SoRAConfig(max_rank=4, xi=0.03, threshold="times_lr", gate_lr=0.2)):
        share = t / 4 if t < 4 else (40 - t) / 36
        assert method.xi.item() == pytest.approx(0.03 * share)
        gates = torch.stack([layer.gate.detach() for layer in net.layers])
        torch.testing.assert_close(gates, moved.sign() * (moved.abs() - 0.03 * share).clamp_min(0))


@pytest.mark.parametrize(
    "config",
    [
        SoRAConfig(max_rank=6, target_rank=1.5, initial_steps=5, final_steps=10),
        SoRAConfig(max_rank=6, target_rank=1.5, compat="released", penalty=0.1),
        SoRAConfig(max_rank=6, xi=0.01, threshold="times_lr", compat="released"),
    ],
    ids=["paper", "released", "xi"],
)
@pytest.mark.parametrize("stop", [3, 20, 35])
def test_a_state_through_json_goes_on_to_the_same_bits(config, stop):
    *_, (_, whole, *_) = trained(config)
    *_, (_, _, method, net, optimizer) = trained(config, steps=range(stop))
    tensors, state = checkpoint.collect(net, optimizer, method)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    state = json.loads(json.dumps(state))
    *_, (_, resumed, *_) = trained(config, steps=range(stop, 40), state=(tensors, state))
    assert torch.equal(resumed, whole)


def test_gates_have_no_weight_decay_and_values_of_their_own():
    torch.manual_seed(0)
    net = Chain((64, 64))
    method = attached(net, SoRA(SoRAConfig(max_rank=512, xi=0.1, gate_lr=0.3)), 10)
    groups = build_optimizer(net, method, training(0.02, weight_decay=0.1)).param_groups
    assert groups[-1]["params"] == [net.layers[0].gate]
    assert [groups[-1][key] for key in ("weight_decay", "eps", "peak_lr")] == [0, 1e-6, 0.3]
    assert groups[0]["weight_decay"] == 0.1
    layer = net.layers[0]
    assert layer.gate.std().item() == pytest.approx(1, abs=0.1)
    assert layer.lora_A.abs().max().item() == pytest.approx(1 / 8, rel=1e-3)  # Kaiming: up to 1 / sqrt(64)
    assert layer.lora_B.count_nonzero() == 0
    assert layer.scale == 16 / 512


@pytest.mark.parametrize(
    "values, message",
    [
        ({"compat": "new"}, r"method\.compat=new: allowed are paper, released"),
        ({"threshold": "linear"}, r"method\.threshold=linear: allowed are constant, times_lr"),
        ({"threshold": "times_lr"}, r"method\.threshold=times_lr .*set method\.xi"),
        ({"xi": -1.0}, r"method\.xi=-1"),
        ({"max_rank": 0}, r"method\.max_rank=0: at least 1"),
        ({"max_rank": 2, "target_rank": 3.0}, r"method\.target_rank=3 .*raise max_rank"),
        ({"gate_lr": 0.0}, r"method\.gate_lr=0: must be positive"),
        ({"alpha": 0.0}, r"method\.alpha"),
    ],
)
def test_wrong_options_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        SoRAConfig(**values)


def test_no_room_for_pruning_is_refused_unless_a_threshold_is_given():
    with pytest.raises(UserError, match="leave none of the 10"):
        SoRAConfig(initial_steps=5, final_steps=5).with_steps(10)
    assert SoRAConfig(initial_steps=5, final_steps=5, xi=0.1).with_steps(10).xi == 0.1


def test_a_run_with_a_given_threshold_ends_where_it_leads(start, tiny_run):
    outcome = json.loads((start([*tiny_run, "method=sora", "method.xi=0.05"]) / "result.json").read_text())[
        "parameters"
    ]
    assert 0 < outcome["kept"] < outcome["peak"] - 12 * 8
    assert abs(outcome["kept"] - 1740) > 0.05 * 1740  # where the budget's threshold ends
