"""Times of a step, by hand, and the hours in docs/gpu.md."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adalora.backbones.options import DECODERS
from adalora.fast import speed_up
from adalora.methods.discovery import create
from adalora.paths import ROOT
from adalora.planning.plan import make_plan
from adalora.planning.speed import Speed, devices, find, speed_here, step_speed
from scripts.hours import hours
from tests.methods.matrix import CONFIGS
from tests.tiny import decoder


@pytest.fixture
def plan(compose):
    """`plan("task=rte", ...)`: a plan on the official rows."""

    def make(*overrides):
        config = compose(*overrides)
        return make_plan(config, config.task.rows)

    return make


def test_a_gpu_is_found_by_its_name():
    assert find("NVIDIA A100-SXM4-80GB").name == "A100"
    assert find("Tesla V100-SXM2-16GB").name == "V100"
    assert find("NVIDIA GeForce RTX 4090").name == "RTX 4090"
    assert find("a card of the future") is find("NVIDIA T400") is find("NVIDIA GeForce RTX 4090 Laptop GPU") is None
    assert find("NVIDIA A100-SXM4-40GB MIG 1g.5gb") is None


def test_the_longer_of_arithmetic_and_launches_counts(plan):
    rte = plan("task=rte", "method=adalora")
    speed = step_speed(rte, find("H100"), "bf16")
    assert (speed.seconds, speed.basis) == (pytest.approx((12 * 165 + 260) * 45e-6), "measured")
    speed = step_speed(rte, find("V100"), "fp32")
    assert (speed.seconds, speed.basis) == (pytest.approx(rte.cost.flops / (0.35 * 15.7e12)), "measured")
    assert step_speed(rte, find("A100"), "bf16").basis == "scaled"
    assert step_speed(rte, find("T4"), "bf16") is None


def test_what_only_a_guess_is_known_of_says_so(plan):
    xsum = plan("task=xsum", "method=adalora", "budget=2.20%")
    speed = step_speed(xsum, find("A100"), "bf16")
    assert (speed.seconds, speed.basis) == (pytest.approx(xsum.cost.flops / (0.2 * 312e12)), "guessed")
    assert step_speed(xsum, find("V100"), "fp32").basis == "scaled", "measured on another architecture"


def test_processes_share_the_rows(plan):
    xsum = plan("task=xsum", "method=adalora", "budget=2.20%")
    one, four = (step_speed(xsum, find("V100"), "fp32", count).seconds for count in (1, 4))
    assert one == pytest.approx(4 * four)


def test_micro_batches_launch_again(plan):
    one, four = (step_speed(plan("task=rte", f"training.micro_batches={n}"), find("H100"), "bf16") for n in (1, 4))
    assert four.seconds == pytest.approx(4 * one.seconds)


def test_every_architecture_has_its_launches():
    assert devices().launches.keys() == {"deberta-v2", "bart", *DECODERS}


def test_this_machine_s_time_comes_from_its_matrix_products(plan, monkeypatch):
    monkeypatch.setattr("adalora.planning.speed.rate", lambda precision, device: 1e11)
    rte = plan("task=rte", "device=cpu")
    assert speed_here(rte) == Speed(rte.cost.flops / (0.5 * 1e11), "guessed")


def test_launches_are_those_of_a_step_of_adalora():
    """Of the linear layers at least: three products of a module forward, and their gradients."""
    counts = {}
    for layers in (2, 4):
        model = decoder("llama", num_hidden_layers=layers).float().train()
        method = create(CONFIGS["adalora"].with_steps(20))
        targets = {n: m for n, m in model.named_modules() if n.endswith("_proj")}
        method.attach(model, targets, 20)
        speed_up(model, method)
        count = Launched()
        with count, torch.autocast("cpu", torch.bfloat16):
            ids = torch.randint(4, 30, (2, 8))
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        counts[layers] = count.number
    assert (counts[4] - counts[2]) / 2 == pytest.approx(devices().launches["llama"].layer, rel=0.1)


class Launched(TorchDispatchMode):
    """Counts operations that aren't views."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += not function.is_view
        return function(*args, **(kwargs or {}))


@pytest.mark.slow
def test_the_hours_in_the_docs_are_those_of_the_table():
    text = (ROOT / "docs/gpu.md").read_text()
    assert "\n".join(hours()) in text
