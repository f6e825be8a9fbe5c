"""IncreLoRA's growth: when, by how much, counts, scores, and the state it leaves."""

import copy

import pytest
import torch
from torch import nn

from adalora.backbones.outline import outline_of
from adalora.errors import UserError
from adalora.methods.increlora.layer import GrowingLinear, IncreLoRA
from adalora.methods.increlora.options import Growth, IncreLoRAConfig
from adalora.methods.linear import merge, merged
from adalora.training.optimizer import set_lr
from tests.tiny import bart, targets_of, trained

T = 30


class Net(nn.Module):
    """Three modules of two shapes, the first called twice; float64."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 5), nn.Linear(5, 6), nn.Linear(6, 5)
        self.double().requires_grad_(False)

    def forward(self, x):
        h = torch.tanh(self.b(torch.tanh(self.a(x))))
        return self.c(h) + self.a(h)


def started(**options):
    torch.manual_seed(0)
    net = Net()
    given = {"target_rank": 3, "add_rank": 1, "top_h": 1, "initial_steps": 2, "interval": 2, "alpha": 4} | options
    method = IncreLoRA(IncreLoRAConfig(**given))
    method.attach(net, {name: getattr(net, name) for name in "abc"}, T)
    optimizer = torch.optim.AdamW([{"params": trained(net), "peak_lr": 0.02, "born": 0}], lr=0.02)
    return net, method, optimizer


def batch(t, rows=8):
    generator = torch.Generator().manual_seed(t)
    return torch.randn(2, rows, 6, generator=generator, dtype=torch.float64)


def loss_of(net, rows):
    return nn.functional.mse_loss(net(rows[0]), rows[1][:, :5])


def step(net, method, optimizer, t, rows=None):
    set_lr(optimizer, t, T, 3)
    rows = batch(t) if rows is None else rows
    (loss_of(net, rows) + method.regulariser()).backward()
    method.before_step(t, optimizer)
    optimizer.step()
    method.after_step(t)
    optimizer.zero_grad()


def run(net, method, optimizer, first=0, last=T):
    totals = []
    for t in range(first, last):
        step(net, method, optimizer, t)
        totals.append(method.total)
    return totals


def test_ranks_grow_one_module_at_a_time_from_the_second_interval_on():
    totals = run(*started())
    assert totals[:14] == [3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8]
    assert totals[14:] == [9] * 16


@pytest.mark.parametrize("compat, ends", [("none", 10), ("released", 12)])
def test_the_target_is_met_exactly_and_the_released_code_overshoots(compat, ends):
    """10 of 3 ranks, 3 at a time, two modules at once: 6 more, then 1; released: 6, then 3 for the one left."""
    net, method, optimizer = started(target_rank=10 / 3, add_rank=3, top_h=2, compat=compat)
    assert run(net, method, optimizer)[-1] == ends
    assert sum(method.ranks().values()) == ends
    assert not method.growing
    silent = torch.cat([module.silent for module in method.modules.values()])
    assert silent.unique().tolist() == ([0.0] if compat == "none" else [1e-5])
    assert all(len(module.silent) == 3 for module in method.modules.values())


@pytest.mark.parametrize("compat, ends", [("none", 4), ("released", 6)])
def test_of_equal_scores_the_first_module_is_chosen_and_by_the_released_code_all(compat, ends):
    net, method, optimizer = started(target_rank=3, compat=compat)
    run(net, method, optimizer, 0, 4)
    for average in (method.importance.sensitivity, method.importance.uncertainty):
        average.fill_(1.0)
    method.importance.average = lambda *values: None
    run(net, method, optimizer, 4, 5)
    assert method.total == ends
    assert method.ranks()["a"] == 2


@pytest.mark.parametrize(
    "task, rank, add, top_h, ends",  # results/paper/increlora_hparams.csv: final_total_rank_code
    [("mrpc", 8, 4, 10, 592), ("qnli", 8, 4, 22, 600), ("rte", 8, 4, 9, 576), ("rte", 2, 1, 5, 144)],
)
def test_the_totals_of_the_released_scripts(task, rank, add, top_h, ends):
    for exact in (False, True):
        growth = Growth(72, 72 * rank, add, top_h, 100, 100, exact)
        total, t = 72, 0
        while total < growth.target:
            t += 1
            if growth.due(t):
                total += sum(growth.amounts(total))
        assert total == (growth.target if exact else ends)
        assert growth.last_step() == t


def test_the_score_is_of_the_gradient_of_the_increment_over_both_calls():
    """G from autograd, for an increment that is materialised once."""
    net, method, optimizer = started()
    run(net, method, optimizer, 0, 9)
    assert method.growing
    rows = batch(9)
    deltas = {}
    twin = copy.deepcopy(net)
    for name, module in method.modules.items():
        A, E, B = module.slots()
        deltas[name] = (module.scale * B @ (E * A)).detach().requires_grad_()
        plain = nn.Linear(module.in_features, module.out_features).double()
        setattr(twin, name, plain)
        plain.requires_grad_(False)
    weights = {f"{n}.weight": method.modules[n].weight + deltas[n] for n in deltas}
    biases = {f"{n}.bias": method.modules[n].bias for n in deltas}
    out = torch.func.functional_call(twin, weights | biases, (rows[0],))
    nn.functional.mse_loss(out, rows[1][:, :5]).backward()
    expected = [float((d.detach() * d.grad).abs().sum() / d.numel() ** 0.5) for d in deltas.values()]
    step(net, method, optimizer, 9, rows)
    assert method.S.tolist() == pytest.approx(expected, rel=1e-12)


def test_the_score_is_the_same_over_micro_batches():
    (whole, one, first), (parts, other, second) = started(), started()
    for net, method, optimizer, cut in ((whole, one, first, 1), (parts, other, second, 4)):
        for t in range(8):
            set_lr(optimizer, t, T, 3)
            for part in batch(t).chunk(cut, 1):
                (loss_of(net, part) / cut).backward()
            method.before_step(t, optimizer)
            optimizer.step()
            optimizer.zero_grad()
    assert one.S.min() > 0
    assert other.S.tolist() == pytest.approx(one.S.tolist(), rel=1e-9)
    assert one.ranks() == other.ranks()


def test_no_gradient_of_the_increment_is_gathered_once_grown():
    net, method, optimizer = started()
    run(net, method, optimizer)
    assert all(module.gradient is None for module in method.modules.values())
    assert all(stack.G is None for stack in method.stacks)


@pytest.mark.parametrize("restart", [True, False])
def test_what_a_growth_adds_warms_up_anew_and_ends_with_the_rest(restart):
    net, method, optimizer = started(restart_warmup=restart)
    run(net, method, optimizer, 0, 5)  # grown at 4
    new = optimizer.param_groups[-1]
    assert new["params"][0].numel() == 1  # E, then A and B of the new reserve
    assert new["weight_decay"] == optimizer.defaults["weight_decay"]
    rates = []
    for t in range(5, T + 1):
        set_lr(optimizer, t, T, 3)
        rates.append(new["lr"] / 0.02)
    if restart:
        assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
        assert rates[4] == pytest.approx((26 - 5) / 23)  # horizon T - 4, warm-up 3
    else:
        assert rates[0] == pytest.approx((T - 5) / (T - 3))
    assert rates[-1] == 0


def test_adam_counts_the_steps_of_each_chunk():
    net, method, optimizer = started()
    run(net, method, optimizer, 0, 10)
    (grown,) = [m for m in method.modules.values() if m.rank > 1][:1]
    ages = {name: [int(optimizer.state[p]["step"]) if p in optimizer.state else 0 for p in getattr(grown, name)]
            for name in ("lora_A", "lora_E", "lora_B")}  # fmt: skip
    assert ages["lora_A"][:2] == ages["lora_B"][:2] == [10, 9]  # the reserve came after step 0
    assert ages["lora_E"][0] == 10
    # a freed E is as old as the reserve that took its place
    assert ages["lora_E"][1:] == ages["lora_A"][2:] == ages["lora_B"][2:]
    assert 0 < ages["lora_E"][1] < 9


def test_without_advance_learning_the_reserve_is_still_and_starts_at_0():
    net, method, optimizer = started(advance_learning=False)
    step(net, method, optimizer, 0)
    before = {name: module.lora_A[1].clone() for name, module in method.modules.items()}
    assert len(optimizer.param_groups) == 1
    run(net, method, optimizer, 1, 5)
    (name,) = [name for name, rank in method.ranks().items() if rank == 2]
    module = method.modules[name]
    assert torch.equal(module.lora_A[1], before[name])  # as drawn, free from now on
    assert module.lora_A[1].requires_grad
    assert not module.lora_A[2].requires_grad
    assert module.lora_E[1].item() == 0
    run(net, method, optimizer, 5, 8)
    assert not torch.equal(module.lora_A[1], before[name])
    assert module.lora_E[1].item() != 0
    assert method.peak() == method.kept()


@pytest.mark.parametrize("rescale", [False, True])
def test_growing_shrinks_the_update_unless_rescaled(rescale):
    net, method, optimizer = started(rescale=rescale, alpha=8)
    run(net, method, optimizer, 0, 4)
    before = {name: module.delta_weight().detach() for name, module in method.modules.items()}
    set_lr(optimizer, 4, T, 3)
    loss_of(net, batch(4)).backward()
    method.before_step(4, optimizer)  # the optimizer has not moved yet
    (name,) = [name for name, rank in method.ranks().items() if rank == 2]
    kept = method.modules[name].delta_weight().detach()
    torch.testing.assert_close(kept, before[name] * (1 if rescale else 0.5), rtol=1e-2, atol=1e-6)


def test_counts_are_the_active_ranks_and_the_peak_has_the_reserve():
    net, method, optimizer = started()
    run(net, method, optimizer)
    slots = {"a": 11, "b": 11, "c": 11}
    assert method.kept() == sum(rank * (slots[name] + 1) for name, rank in method.ranks().items())
    assert method.peak() == method.kept() + 3 * 11 == sum(p.numel() for p in trained(net))
    assert method.config.count(dict.fromkeys("abc", (5, 6))) == (3 * 3 * 12 + 3 * 11, 3 * 3 * 12)


def test_finishing_and_merging_keep_the_function_and_only_what_is_kept():
    net, method, optimizer = started()
    run(net, method, optimizer)
    x = batch(99)[0]
    before, peak = net(x), method.peak()
    method.finish()
    torch.testing.assert_close(net(x), before)
    assert sum(p.numel() for p in trained(net)) == method.kept() < peak
    merge(net)
    torch.testing.assert_close(net(x), before)
    assert not any(isinstance(module, GrowingLinear) for module in net.modules())


@pytest.mark.parametrize("steps", [1, 3, 5, 8])
def test_what_is_merged_while_ranks_grow_computes_what_is_trained(steps):
    """The reserve's update is small (E = 1e-5), and included in both."""
    net, method, optimizer = started()
    run(net, method, optimizer, 0, steps)
    assert method.growing
    assert any(module.silent.any() for module in method.modules.values())
    x = batch(99)[0]
    before = net(x)
    with merged(net):
        torch.testing.assert_close(net(x), before, rtol=1e-12, atol=1e-14)


def test_a_finished_adapter_fits_into_a_fresh_model():
    net, method, optimizer = started()
    run(net, method, optimizer)
    method.finish()
    other, fresh, _ = started()
    fresh.allocate(method.ranks())
    other.load_state_dict(net.state_dict())
    x = batch(99)[0]
    assert torch.equal(other(x), net(x))


def test_the_state_holds_what_goes_on():
    """A fresh method restored at step 7 has the same ranks, random draws and values to the bit."""
    for options in ({}, {"advance_learning": False}, {"target_rank": 10 / 3, "add_rank": 3, "top_h": 2}):
        net, method, optimizer = started(**options)
        run(net, method, optimizer, 0, 7)
        other, fresh, again = started(**options)
        fresh.load_state_dict(copy.deepcopy(method.state_dict()))
        names = {id(p): name for name, p in net.named_parameters()}
        there = dict(other.named_parameters())
        with torch.no_grad():
            for p in trained(net):
                there[names[id(p)]].copy_(p)
        again.param_groups.clear()
        for group in optimizer.param_groups:
            again.add_param_group(group | {"params": [there[names[id(p)]] for p in group["params"]]})
            for p in group["params"]:
                if p in optimizer.state:
                    again.state[there[names[id(p)]]] = copy.deepcopy(optimizer.state[p])
        for parts in ((net, method, optimizer), (other, fresh, again)):
            run(*parts, 7, T)
        assert fresh.ranks() == method.ranks()
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_a_training_too_short_to_grow_is_refused_with_what_to_do():
    config = IncreLoRAConfig(target_rank=4, add_rank=1, top_h=1, interval=10).with_steps(100)
    shapes = {f"m{i}": (4, 4) for i in range(10)}
    with pytest.raises(UserError, match=r"40 ranks at step 310.*has 100.*method\.top_h=1.*method\.interval=10"):
        config.check(shapes, 100)
    config.check(shapes, 311)


@pytest.mark.parametrize("total_steps", [24, 100, 3900])
@pytest.mark.parametrize("rank", [1.2, 2, 8])
def test_what_is_left_open_ends_within_40_percent(rank, total_steps):
    config = IncreLoRAConfig(target_rank=rank).with_steps(total_steps)
    growth = config.growth(72, total_steps)
    assert 0 < growth.last_step() <= 0.4 * total_steps
    if total_steps >= 100 and rank >= 2:
        assert growth.top_h < 40


def test_it_grows_on_bart(compose):
    """192 modules of three shapes, the cross-attention's too, on a small sibling with BART's names."""
    config = compose("model=bart_large").backbone
    full = outline_of(config, 2).targets(config)
    assert IncreLoRAConfig(target_rank=2).count(full).kept == 2 * (540_672 + 192)
    small = bart(vocab_size=20)
    targets = targets_of(small, compose("model=bart_large"))
    assert len(targets) == 32
    ids = torch.tensor([[0, 5, 6, 7, 2], [0, 8, 9, 10, 2]])
    before = small(input_ids=ids, labels=ids).logits
    method = IncreLoRA(IncreLoRAConfig(target_rank=2, initial_steps=1, interval=1, top_h=6, alpha=32))
    method.attach(small, targets, 12)
    assert torch.equal(small(input_ids=ids, labels=ids).logits, before)
    optimizer = torch.optim.AdamW([{"params": trained(small), "peak_lr": 0.02, "born": 0}], lr=0.02)
    losses = []
    for t in range(12):
        set_lr(optimizer, t, 12, 0)
        loss = small(input_ids=ids, labels=ids).loss
        (loss + method.regulariser()).backward()
        losses.append(loss.item())
        method.before_step(t, optimizer)
        optimizer.step()
        optimizer.zero_grad()
    assert sum(method.ranks().values()) == 64
    assert len(set(method.ranks().values())) > 1
    assert losses[-1] < losses[0]
