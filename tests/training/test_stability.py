"""Steps whose loss or gradient isn't finite: fp16's skipped ones, and training that diverges.

accelerate has no fp16 on a CPU, so these runs compute in fp32 with torch's CPU scaler, whose factors are powers
of two: but for the skipped steps, every number is that of a run without it.
"""

import json

import pytest
import torch
from torch.amp import GradScaler

from adalora.errors import UserError
from adalora.run import run
from adalora.training.batches import LengthGroups
from adalora.training.build import build_accelerator
from adalora.training.stability import MOST_SKIPPED
from tasks.classification.task_type import Classification
from tests.methods.matrix import RUNS, mostly_slow, run_of
from tests.run.test_run import read

STEPS = 16  # and a few skipped: within the 24 batches of an epoch


@pytest.fixture
def args(tiny_run):
    """A run of 16 steps, in which AdaLoRA and SoRA prune, IncreLoRA grows, and PRILoRA prunes."""
    return [
        *tiny_run, "training.batch_size=4", f"training.max_steps={STEPS}", "training.log_steps=3",
        "training.eval_steps=7", "training.checkpoint_steps=5",
    ]  # fmt: skip


@pytest.fixture
def scalers(monkeypatch):
    """Turns fp16's scaling on; lists the scaler of every run."""
    found = []

    def with_scaler(config):
        accelerator = build_accelerator(config)
        accelerator.scaler = GradScaler("cpu", init_scale=2.0**16, growth_interval=7)
        accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
        found.append(accelerator.scaler)
        return accelerator

    monkeypatch.setattr(run, "build_accelerator", with_scaler)
    monkeypatch.setattr(
        "accelerate.accelerator.get_mixed_precision_context_manager", lambda *_: torch.autocast("cpu", enabled=False)
    )
    return found


@pytest.fixture
def overflows(monkeypatch):
    """Lets some batches overflow, the same ones whenever they come; lists for each that came whether it did.

    They draw nothing from the generators, so that the steps around them see the same dropout as without them.
    """
    original, came = Classification.loss, []

    def loss(self, model, batch):
        came.append(int(batch["input_ids"].sum()) % 5 == 0)
        if not came[-1]:
            return original(self, model, batch)
        with torch.random.fork_rng():
            mean, weight = original(self, model, batch)
        return mean * torch.inf, weight

    monkeypatch.setattr(Classification, "loss", loss)
    return came


@pytest.mark.parametrize("method", mostly_slow(RUNS, "adalora", "increlora"))
def test_skipped_steps_are_as_if_their_batches_had_never_been(
    start, args, tmp_path, method, scalers, overflows, monkeypatch
):
    folder = start([*args, *run_of(method)])
    result, log, adapter = read(folder)
    skipped = [place for place, overflowed in enumerate(overflows) if overflowed]
    assert 3 <= len(skipped) == len(overflows) - STEPS <= 8
    counted = [line.pop("train/skipped_steps") for line in log if "train/skipped_steps" in line]
    assert counted[-1] == len(skipped)
    assert counted == sorted(counted)

    monkeypatch.undo()  # no scaler and no overflow
    batches = LengthGroups.batches

    def without(self, epoch=None):
        return [batch for place, batch in enumerate(batches(self, epoch)) if place not in skipped]

    monkeypatch.setattr(LengthGroups, "batches", without)
    plain, *others = read(start([*args, *run_of(method), f"run_root={tmp_path}/plain"]))
    assert others == [log, adapter]
    for each in (plain, result):
        del each["files"]["metrics.jsonl"]  # it counts skipped steps
    assert plain == result


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["adalora", "increlora", "prilora", "sora", "full"]
)  # those that count steps, and one
def test_resumed_runs_with_a_scaler_end_in_the_same_bits(start, killed, args, tmp_path, method, scalers, overflows):
    whole = start([*args, *run_of(method), f"run_root={tmp_path}/whole"])
    assert any(overflows)
    killed([*args, *run_of(method)], 6, 9, 15)
    assert read(start([*args, *run_of(method)])) == read(whole)
    assert scalers[-1].state_dict() == scalers[0].state_dict()
    assert scalers[0].get_scale() != 2.0**16


def test_too_many_overflows_in_a_row_end_the_run(start, args, scalers, monkeypatch, tmp_path):
    original = Classification.loss

    def loss(self, model, batch):
        mean, weight = original(self, model, batch)
        return mean * torch.nan, weight

    monkeypatch.setattr(Classification, "loss", loss)
    with pytest.raises(UserError, match=rf"fp16 overflowed {MOST_SKIPPED} times in a row after step 0.*bf16 or fp32"):
        start([*args, "method=lora"])
    (status,) = (tmp_path / "runs").rglob("status")
    assert json.loads(status.read_text())["status"] == "failed"


@pytest.mark.parametrize("precision, bad", [("fp32", torch.nan), ("bf16", torch.inf)])
def test_a_diverged_run_names_its_step_and_moves_no_weight_after_it(start, args, precision, bad, monkeypatch, tmp_path):
    """Step 8 is the first; the next to look at the device is the logging step 9."""
    original, seen = Classification.loss, []
    parts = {}

    def loss(self, model, batch):
        mean, weight = original(self, model, batch)
        trained = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        seen.append(trained)
        parts["model"] = model
        return mean * (bad if len(seen) == 8 else 1), weight

    monkeypatch.setattr(Classification, "loss", loss)
    with pytest.raises(UserError, match="at step 8"):
        start([*args, "method=lora", f"precision={precision}"])
    assert len(seen) == 9
    after = [p.detach() for p in parts["model"].parameters() if p.requires_grad]
    assert all(torch.equal(now, before) for now, before in zip(after, seen[7], strict=True))
    assert not all(torch.equal(now, before) for now, before in zip(seen[7], seen[6], strict=True))
    assert [place.name for place in (tmp_path / "runs").rglob("step-*")] == ["step-00000005"]
