"""Weight decay, and the learning rate of every step."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import SGD
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from adalora.methods.discovery import create
from adalora.methods.full.layer import Full
from adalora.methods.full.options import FullConfig
from adalora.methods.lora.options import LoRAConfig
from adalora.training.optimizer import SCHEDULES, build_optimizer, set_lr
from tests.tiny import decoder, training

LR, DECAY = 0.5, 0.1
OPTIONS = training(LR, weight_decay=DECAY)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(3, 4)
        self.adapted = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.classifier = nn.Linear(6, 2)


def factors_of(schedule, total, warmup):
    """The factors that transformers' scheduler gives for steps 0 to total."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, warmup, total)
    factors = []
    for _ in range(total + 1):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize("total, warmup", [(1, 0), (10, 0), (10, 3), (10, 9), (10, 10), (100, 7), (5, 8)])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_schedules_are_transformers(name, total, warmup):
    library = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}[name]
    found = [SCHEDULES[name](t, total, warmup) for t in range(total)]  # the steps that are taken
    assert found == pytest.approx(factors_of(library, total, warmup)[:total], abs=1e-12)


def test_adam_s_options_reach_it():
    options = replace(OPTIONS, adam_beta1=0.8, adam_beta2=0.95, adam_eps=1e-5)
    for group in build_optimizer(Net(), create(FullConfig()), options).param_groups:
        assert (group["betas"], group["eps"]) == ((0.8, 0.95), 1e-5)


def test_the_norms_of_decoders_do_not_decay():
    net = decoder("qwen3").requires_grad_(True)
    optimizer = build_optimizer(net, create(LoRAConfig(rank=2)), OPTIONS)
    names = {id(p): name for name, p in net.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name for name, value in decay.items() if value == 0} == {name for name in decay if "norm" in name}
    assert "model.layers.0.self_attn.q_norm.weight" in decay


def after_a_step_without_gradients(method):
    """Each trained parameter's value after one step with zero gradients, over its value before: AdamW then
    does nothing but decay."""
    torch.manual_seed(0)
    net = Net().requires_grad_(False)
    method.attach(net, {"adapted": net.adapted}, 10)
    net.norm.requires_grad_(True)
    net.classifier.requires_grad_(True)
    optimizer = build_optimizer(net, method, OPTIONS)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    values = {}
    for name, parameter in net.named_parameters():
        assert (parameter == parameter.flatten()[0]).all()
        values[name] = parameter.flatten()[0].item()
    return values


LEFT = pytest.approx(1 - LR * DECAY)


def test_factors_and_head_decay_and_biases_and_norms_do_not():
    assert after_a_step_without_gradients(create(LoRAConfig(rank=2))) == {
        "embedding.weight": 1.0,
        "adapted.weight": 1.0,
        "adapted.bias": 1.0,
        "adapted.lora_A": LEFT,
        "adapted.lora_B": LEFT,
        "norm.weight": 1.0,
        "norm.bias": 1.0,
        "classifier.weight": LEFT,
        "classifier.bias": 1.0,
    }


def test_full_fine_tuning_decays_the_backbone_s_weights():
    values = after_a_step_without_gradients(create(FullConfig()))
    decayed = {name for name, value in values.items() if value == LEFT}
    assert decayed == {"embedding.weight", "adapted.weight", "classifier.weight"}


class OwnRate(Full):
    """Full fine-tuning that asks for another learning rate, and no decay, of the classifier."""

    def attach(self, model, targets, total_steps):
        super().attach(model, targets, total_steps)
        self.own = list(model.classifier.parameters())

    def groups(self):
        return [{"params": self.own, "lr": 4.0, "weight_decay": 0.0}]


def test_a_method_s_own_group_keeps_its_values():
    net, method = Net(), OwnRate(FullConfig())
    method.attach(net, {}, 10)
    optimizer = build_optimizer(net, method, OPTIONS)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())  # each exactly once
    own = next(group for group in optimizer.param_groups if group["params"][0] is net.classifier.weight)
    assert own["weight_decay"] == 0.0
    set_lr(optimizer, 1, 10, 2)
    assert own["lr"] == pytest.approx(2.0)
    assert [group["lr"] for group in optimizer.param_groups if group is not own] == pytest.approx([LR / 2] * 2)


def test_born_starts_a_group_s_own_schedule():
    net = Net().requires_grad_(False)
    net.classifier.requires_grad_(True)
    optimizer = build_optimizer(net, create(LoRAConfig(rank=1)), OPTIONS)
    late = nn.Parameter(torch.ones(1))
    optimizer.add_param_group({"params": [late], "peak_lr": 2.0, "born": 6})
    old, own = (factors_of(get_linear_schedule_with_warmup, total, 4) for total in (20, 20 - 6))
    for t in range(6, 21):
        set_lr(optimizer, t, 20, 4)
        *groups, new = optimizer.param_groups
        assert new["lr"] == pytest.approx(2.0 * own[t - 6], abs=1e-12)
        assert [group["lr"] for group in groups] == pytest.approx([LR * old[t]] * 2, abs=1e-12)
