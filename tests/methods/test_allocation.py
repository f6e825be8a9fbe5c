"""The allocator at the edges where the released code fails, and against closed forms."""

import pytest
import torch
from torch import nn

from adalora.methods.adalora.layer import AdaLoRA
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.allocation import Importance, Schedule, prune


def test_the_budget_falls_from_b0_to_bT_as_a_cubic():
    schedule = Schedule(b_0=288, b_T=144, t_i=600, t_f=1800, T=3900, mask_interval=1)
    assert [schedule.budget(t) for t in (0, 600, 2101, 3899)] == [288, 288, 144, 144]
    middle = 600 + (2100 - 600) // 2  # half of the way: 144 + 144 / 8
    assert schedule.budget(middle) == 162
    budgets = [schedule.budget(t) for t in range(3900)]
    assert budgets == sorted(budgets, reverse=True)


def test_pruning_happens_at_the_interval_and_always_in_the_end():
    schedule = Schedule(b_0=8, b_T=4, t_i=10, t_f=20, T=50, mask_interval=7)
    assert [t for t in range(50) if schedule.prunes_at(t)] == [14, 21, 28, *range(31, 50)]
    assert [t for t in range(50) if schedule.scores_at(t)] == list(range(30))


@pytest.mark.parametrize("t_f", [0, 1])
def test_the_last_step_meets_the_budget_even_without_a_final_phase(t_f):
    schedule = Schedule(b_0=8, b_T=4, t_i=2, t_f=t_f, T=20, mask_interval=7)
    assert schedule.budget(19) == 4
    assert schedule.prunes_at(19)


def test_exactly_the_budget_survives_a_tie_earlier_slots_going_first():
    scores = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 5.0]])
    mask, threshold = prune(scores, 3)
    assert mask.tolist() == [[False, False, False], [True, True, True]]
    assert threshold == 1.0


def test_importance_against_the_equations_entry_by_entry():
    beta1, beta2 = 0.85, 0.7
    torch.manual_seed(0)
    importance = Importance.like(torch.zeros(2, 3, dtype=torch.float64))
    average = uncertainty = torch.zeros(2, 3, dtype=torch.float64)
    for _ in range(5):
        w, g = torch.randn(2, 2, 3, dtype=torch.float64)
        importance.update(w, g, beta1, beta2)
        sensitivity = (w * g).abs()
        average = beta1 * average + (1 - beta1) * sensitivity
        uncertainty = beta2 * uncertainty + (1 - beta2) * (sensitivity - average).abs()
    torch.testing.assert_close(importance.score(), average * uncertainty)


def attached(**options):
    """AdaLoRA on two unlike linear layers, ten steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double().requires_grad_(False)
    method = AdaLoRA(AdaLoRAConfig(**{"init_rank": 3, "target_rank": 1.5, **options}).with_steps(10))
    method.attach(net, {"0": net[0], "2": net[2]}, total_steps=10)
    return net, method


def step(net, method, t, x=None):
    loss = net(torch.randn(8, 4, dtype=torch.float64) if x is None else x).square().sum() + method.regulariser()
    loss.backward()
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p -= 0.01 * p.grad
    method.after_step(t)
    net.zero_grad()


def test_the_budget_is_kept_exactly_and_pruned_lambdas_are_zero():
    net, method = attached(initial_steps=0, final_steps=4)
    for t in range(10):
        step(net, method, t)
        zero = sum((layer.lora_E == 0).sum().item() for layer in (net[0], net[2]))
        assert zero == 6 - method.schedule.budget(t) if t > 0 else True
    assert sum(method.ranks().values()) == 3
    shapes = {"0": (6, 4), "2": (3, 6)}
    assert method.kept() == sum(rank * (sum(shapes[name]) + 1) for name, rank in method.ranks().items())


def test_a_module_may_end_at_rank_0_and_still_runs():
    net, method = attached(target_rank=0.5, initial_steps=0, final_steps=4)
    for t in range(10):
        step(net, method, t)
    assert sorted(method.ranks().values()) == [0, 1]
    assert net(torch.randn(2, 4, dtype=torch.float64)).isfinite().all()


def entries(method, parameter):
    """(I_bar, U_bar) of a parameter."""
    for stack in method._stacks():
        for i, p in enumerate(stack.parameters):
            if p is parameter:
                return stack.importance.sensitivity[i], stack.importance.uncertainty[i]
    raise AssertionError


def test_importance_by_sensitivity_alone_leaves_the_uncertainty_out():
    net, method = attached(importance="sensitivity", initial_steps=5, final_steps=2)
    for t in range(3):
        step(net, method, t)
    for k, layer in enumerate((net[0], net[2])):
        expected = entries(method, layer.lora_E)[0][:, 0]
        expected = expected + entries(method, layer.lora_A)[0].mean(1) + entries(method, layer.lora_B)[0].mean(0)
        torch.testing.assert_close(method.scores()[k], expected)


def test_importance_by_magnitude_keeps_the_largest_lambdas():
    net, method = attached(importance="magnitude", initial_steps=0, final_steps=8)
    step(net, method, 0)
    with torch.no_grad():
        net[0].lora_E.copy_(torch.tensor([[1.0], [-5.0], [2.0]]))
        net[2].lora_E.copy_(torch.tensor([[-4.0], [0.5], [3.0]]))
    assert method.scores().tolist() == [[1, 5, 2], [4, 0.5, 3]]
    step(net, method, 3, x=torch.zeros(8, 4, dtype=torch.float64))  # the first final step
    assert method.mask.tolist() == [[False, True, False], [True, False, True]]


def test_doublets_are_scored_and_zeroed_by_row_of_a_and_column_of_b():
    net, method = attached(form="doublets", orthogonality=0.3, initial_steps=0, final_steps=4)
    assert method.regulariser() == 0
    assert not hasattr(net[0], "lora_E")
    for t in range(5):
        step(net, method, t)
    for k, layer in enumerate((net[0], net[2])):
        (a, ua), (b, ub) = entries(method, layer.lora_A), entries(method, layer.lora_B)
        torch.testing.assert_close(method.scores()[k], (a * ua).mean(1) + (b * ub).mean(0))
    for t in range(5, 10):
        step(net, method, t)
    assert method.mask.sum() == 3
    for keep, layer in zip(method.mask, (net[0], net[2]), strict=True):
        assert torch.equal(layer.lora_A.abs().sum(1) != 0, keep)
        assert torch.equal(layer.lora_B.abs().sum(0) != 0, keep)
    shapes = {"0": (6, 4), "2": (3, 6)}
    assert method.kept() == sum(rank * sum(shapes[name]) for name, rank in method.ranks().items())


def test_a_fixed_rank_keeps_no_scores():
    net, method = attached(target_rank=3, initial_steps=0, final_steps=3)
    for t in range(10):
        step(net, method, t)
    assert method.ranks() == {"0": 3, "2": 3}
    assert not method.scores().any()
    assert method.regulariser() > 0


def test_missing_gradients_are_named():
    net, method = attached()
    with pytest.raises(RuntimeError, match="zero_grad"):
        method.after_step(0)


@pytest.mark.parametrize(
    "options",
    [{}, {"form": "doublets"}, {"importance": "sensitivity"}, {"importance": "magnitude"}, {"target_rank": 3}],
    ids=str,
)
def test_state_goes_through_a_round_trip_and_decides_the_same(options):
    net, method = attached(initial_steps=0, final_steps=4, **options)
    x = torch.randn(8, 4, dtype=torch.float64)
    for t in range(5):
        step(net, method, t, x)
    twin_net, twin = attached(initial_steps=0, final_steps=4, **options)
    twin_net.load_state_dict(net.state_dict())
    twin.load_state_dict({name: value.clone() for name, value in method.state_dict().items()})
    for t in range(5, 10):
        step(net, method, t, x)
        step(twin_net, twin, t, x)
    assert twin.ranks() == method.ranks()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin_net.parameters(), strict=True))
