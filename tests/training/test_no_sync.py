"""A training step never waits for the device: nothing reads a value from a tensor."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from adalora.fast import speed_up
from adalora.methods.allocation import prune
from adalora.methods.discovery import create
from adalora.training.optimizer import groups_of
from tasks.causal.options import DECODERS
from tasks.classification.task_type import task_loss
from tasks.discovery import create as create_task
from tasks.masks import given_masks
from tests.methods.matrix import CONFIGS, placed
from tests.tiny import INPUTS, bart, classifier, decoder, targets_of, trained


class NoReads(TorchDispatchMode):
    """Fails where a value is read, which on a GPU waits for all launched work."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is not torch.ops.aten._local_scalar_dense.default, "a step waits for the device"
        return function(*args, **(kwargs or {}))


def test_the_check_finds_what_waits():
    scores = torch.rand(4)
    for wait in (lambda: scores[scores.argmax()], lambda: scores.sum().item(), lambda: bool(scores.any())):
        with pytest.raises(AssertionError, match="waits for the device"), NoReads():
            wait()


@pytest.mark.parametrize("budget", [0, 3, 6])
def test_pruning_does_not_wait(budget):
    scores = torch.rand(2, 3)
    with NoReads():
        mask, threshold = prune(scores, budget)
    assert mask.sum() == budget
    expected = scores.flatten().sort().values[5 - budget] if budget < 6 else torch.tensor(float("nan"))
    torch.testing.assert_close(threshold, expected, equal_nan=True)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "increlora"])  # its growth waits, by design
def test_no_step_of_a_method_waits(tiny_model, compose, name):
    total = 12  # AdaLoRA and SoRA prune between step 1 and the last but one, PRILoRA at the end
    model = classifier(tiny_model).float().train()
    method = create(CONFIGS[name].with_steps(total))
    method.attach(model, targets_of(model, compose("task=sst2", *placed(name))), total)
    speed_up(model, method)
    labels = torch.tensor([0, 1])
    optimizer = torch.optim.AdamW(groups_of(model, method, 0.01), lr=0.01, fused=True)

    def step(t):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**INPUTS).logits
        (task_loss(logits.float(), labels) + method.regulariser()).backward()
        nn.utils.clip_grad_norm_(trained(model), 1.0)
        method.before_step(t, optimizer)
        optimizer.step()
        method.after_step(t)
        optimizer.zero_grad()

    step(0)  # of the length's distances it makes tables once
    for t in range(1, total):
        with NoReads():
            step(t)


@pytest.mark.parametrize("form", ["fast", "plain"])
@pytest.mark.parametrize(
    "make, options", [(bart, ["task=xsum"]), *((lambda k=k: decoder(k), ["task=igbo"]) for k in DECODERS)]
)
def test_no_pass_of_bart_or_a_decoder_waits(compose, make, options, form):
    model = make().float().train()
    config = compose(*options)
    method = create(CONFIGS["adalora"].with_steps(9))
    method.attach(model, targets_of(model, config), 9)
    if form == "fast":
        speed_up(model, method)
    batch = {"input_ids": torch.randint(4, 30, (3, 8)), "labels": torch.randint(4, 30, (3, 8))}
    batch["labels"][0, 5:] = -100
    if make is bart:
        batch["attention_mask"] = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] * 8])
    kind = create_task(config.task)
    for _ in range(3):
        with NoReads(), torch.autocast("cpu", torch.bfloat16):
            loss, weight = kind.loss(model, batch)
            (loss * weight + method.regulariser()).backward()


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_decoder_s_loss_is_the_library_s_and_its_attention_stays(compose, kind, attention):
    model = decoder(kind).float()
    model.set_attn_implementation(attention)
    ids = torch.randint(4, 30, (3, 9))
    expected = model(input_ids=ids, use_cache=False).logits.float()[:, :-1]
    loss, _ = create_task(compose("task=igbo").task).loss(model, {"input_ids": ids[:, :-1], "labels": ids[:, 1:]})
    torch.testing.assert_close(loss, nn.functional.cross_entropy(expected.flatten(0, 1), ids[:, 1:].flatten()))
    assert model.config._attn_implementation == attention
    with pytest.raises(RuntimeError), given_masks(model):
        raise RuntimeError
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("padded", [True, False])
def test_masks_made_outside_give_the_bits_of_those_that_the_library_makes(compose, padded):
    model = bart(width=32).float().requires_grad_(True)
    batch = {"input_ids": torch.randint(4, 30, (3, 9)), "labels": torch.randint(4, 30, (3, 6))}
    batch["attention_mask"] = torch.ones(3, 9, dtype=torch.long)
    batch["attention_mask"][1, 5:] = int(not padded)
    expected = model(**batch, use_cache=False).loss
    grads = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    loss, _ = create_task(compose("task=xsum").task).loss(model, batch)
    assert torch.equal(loss, expected)
    for one, other in zip(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True), grads, strict=True):
        assert one is other is None or torch.equal(one, other)
