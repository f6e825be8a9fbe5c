"""A printed count that is not what is trained ends the run. Runs of every method pass the check in test_run.py."""

import json

import pytest
import torch

from adalora.errors import UserError
from adalora.methods.adalora.layer import AdaLoRA
from adalora.methods.increlora.layer import IncreLoRA
from adalora.methods.increlora.options import IncreLoRAConfig
from adalora.methods.lora.options import LoRAConfig
from adalora.methods.options import Count
from adalora.methods.sora.layer import SoRA
from adalora.run import run

HEAD = 32 * 32 + 32 + 32 * 2 + 2  # pooler and classifier of the tiny model
RANK_1 = 8 * (32 + 32) + 4 * (32 + 64)  # 12 modules


@pytest.fixture
def short(tiny_run):
    return [*tiny_run, "training.max_steps=12", "training.batch_size=8"]


def numbers(message):
    return [int(word.replace(",", "")) for word in message.split() if word.replace(",", "").isdigit()]


def test_a_count_that_differs_from_what_is_trained(start, short, monkeypatch, tmp_path):
    original = LoRAConfig.count

    def lies(self, shapes):
        peak, kept = original(self, shapes)
        return Count(peak + 7, kept + 7)

    monkeypatch.setattr(LoRAConfig, "count", lies)
    with pytest.raises(UserError, match="at the start") as error:
        start([*short, "method=lora"])
    assert numbers(str(error.value)) == [2 * RANK_1 + HEAD, 2 * RANK_1 + 7, HEAD]
    (status,) = (tmp_path / "runs").rglob("status")
    assert json.loads(status.read_text())["status"] == "failed"


def test_a_growing_method_starts_below_its_peak(start, short, monkeypatch):
    monkeypatch.setattr(IncreLoRAConfig, "initial", lambda self, shapes: None)
    with pytest.raises(UserError, match="at the start") as error:
        start([*short, "method=increlora"])
    found, declared, _ = numbers(str(error.value))
    assert found - HEAD == RANK_1 + 12
    assert declared > found - HEAD


def test_an_optimizer_that_lacks_a_parameter(start, short, monkeypatch):
    original = run.build_optimizer

    def forgets(*args):
        optimizer = original(*args)
        optimizer.param_groups[0]["params"].pop(0)
        return optimizer

    monkeypatch.setattr(run, "build_optimizer", forgets)
    with pytest.raises(UserError, match="the optimizer holds"):
        start([*short, "method=lora"])


@pytest.mark.parametrize(
    "method, skipped, message",
    [
        (AdaLoRA, "after_step", r"AdaLoRA ended at a total rank of 36 instead of 23"),
        (SoRA, "after_step", r"SoRA ended with [\d,]+ parameters instead of [\d,]+"),
        (IncreLoRA, "_grow", "total rank of 12"),
    ],
)
def test_an_allocation_that_does_not_end_where_it_was_to(start, short, monkeypatch, method, skipped, message):
    monkeypatch.setattr(method, skipped, lambda *args: None)
    with pytest.raises(UserError, match=message):
        start([*short, f"method={method.__name__.lower()}"])


def test_a_pruned_triplet_that_came_back(start, short, monkeypatch):
    original = AdaLoRA.check_end

    def revives(self):
        i, slot = (~self.mask).nonzero()[0].tolist()
        with torch.no_grad():
            list(self.modules.values())[i].lora_E[slot] = 0.1
        original(self)

    monkeypatch.setattr(AdaLoRA, "check_end", revives)
    with pytest.raises(UserError, match="pruned slots"):
        start([*short, "method=adalora"])
