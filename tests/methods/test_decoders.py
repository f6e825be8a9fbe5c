"""Every method on decoder language models: Llama (tied and untied), OLMo-2, Qwen2 and Qwen3."""

from copy import deepcopy

import pytest
import torch
from peft import PeftModel

from adalora.errors import UserError
from adalora.export import peft
from adalora.fast import speed_up
from adalora.methods.discovery import create
from adalora.methods.linear import AdaptedLinear, merge
from adalora.methods.options import MethodConfig
from adalora.methods.peft.options import PEFTConfig
from adalora.planning.plan import check_possible, make_plan
from adalora.training.recompute import recompute_activations
from tests.methods.matrix import BOTTLENECK, CONFIGS, LINEAR
from tests.tiny import decoder, shapes_of, targets_of, trained, wake

MODELS = {
    "llama": {}, "llama, tied": {"tie_word_embeddings": True}, "olmo2": {}, "qwen2": {},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True},
}  # fmt: skip
PEFTS: dict[str, MethodConfig] = {
    f"peft {kind}": PEFTConfig(type=kind, config=config)
    for kind, config in {"LORA": {"r": 3}, "ADALORA": {"init_r": 3, "target_r": 2}}.items()
}
METHODS = {name: CONFIGS[name] for name in LINEAR} | PEFTS
SIZED = ("adalora", "lora", "increlora", "sora", "prilora", "mora", "melora", "lora_mini", "lorta")
IDS = torch.tensor([[2, 5, 6, 7, 9, 11], [2, 8, 9, 12, 4, 7]])


def built(name, **options):
    return decoder(name.partition(",")[0], **(MODELS[name] | options))


def attach(model, config, compose, fast=False):
    targets = targets_of(model, compose("model=smollm2"))
    method = create(config.with_backbone(model.config).with_steps(20))
    method.attach(model, targets, total_steps=20)
    if fast:
        speed_up(model, method)
    return method, targets


@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param(name, model, marks=[] if model == "llama" or name == "adalora" else pytest.mark.slow)
        for name in METHODS
        for model in MODELS
    ],
)
def test_a_method_on_a_decoder(compose, tmp_path, name, model):
    net = built(model)
    fresh = net(input_ids=IDS).logits
    targets = targets_of(net, compose("model=smollm2"))
    assert len(targets) == 14
    shapes = shapes_of(targets)
    base = deepcopy(net)
    method, _ = attach(net, METHODS[name], compose)
    assert method.config.count(shapes).peak == sum(p.numel() for p in trained(net))
    torch.testing.assert_close(net(input_ids=IDS).logits, fresh)
    wake(net)
    before = net(input_ids=IDS).logits
    assert not torch.allclose(before, fresh)

    before.logsumexp(-1).sum().backward()
    gradients = [p.grad.clone() for p in trained(net)]
    assert all(gradient.any() for gradient in gradients)
    net.zero_grad()
    recompute_activations(net.train())
    net(input_ids=IDS).logits.logsumexp(-1).sum().backward()
    assert all(torch.equal(p.grad, before) for p, before in zip(trained(net), gradients, strict=True))
    net.eval()

    cached, whole = (net.generate(IDS, max_new_tokens=6, do_sample=False, use_cache=use) for use in (True, False))
    assert torch.equal(cached, whole)

    if METHODS[name].name != "mora":  # its increment has no low-rank factors
        peft.save(tmp_path, net, method, [], None, "CAUSAL_LM", "lora")
        loaded = PeftModel.from_pretrained(base, str(tmp_path)).double()
        torch.testing.assert_close(loaded(input_ids=IDS).logits, before, rtol=1e-5, atol=1e-5)  # saved in fp32 or not

    method.merge(net)
    torch.testing.assert_close(net(input_ids=IDS).logits, before)
    assert not any(isinstance(module, AdaptedLinear) for module in net.modules())


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", METHODS)
def test_bf16_weights_have_fp32_adapters(compose, name, fast):
    """One step in bf16 changes the adapter in fp32; merging adds in fp32 and rounds once."""
    net, exact = built("llama").float(), built("llama").float()
    net = net.to(torch.bfloat16)
    exact.load_state_dict(net.state_dict())  # the weights that bf16 has, in fp32
    for model in (net, exact):
        torch.manual_seed(0)
        method, targets = attach(model, METHODS[name], compose, fast)
        wake(model)
    assert {p.dtype for p in trained(net)} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(input_ids=IDS).logits
    torch.testing.assert_close(logits.float(), exact(input_ids=IDS).logits, rtol=0.1, atol=0.3)
    logits.float().logsumexp(-1).sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.any() for p in trained(net))
    if isinstance(METHODS[name], PEFTConfig):  # PEFT merges in the base's precision
        return
    merge(net), merge(exact)
    for path in targets:
        found, expected = net.get_submodule(path).weight, exact.get_submodule(path).weight
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, expected.to(torch.bfloat16))


def test_full_fine_tuning_trains_the_modules_of_a_decoder(compose):
    net = built("llama")
    attach(net, CONFIGS["full"], compose)
    names = {name for name, p in net.named_parameters() if p.requires_grad}
    assert "model.layers.0.self_attn.q_proj.weight" in names
    net(input_ids=IDS).logits.logsumexp(-1).sum().backward()
    assert all(p.grad.any() for p in trained(net))


@pytest.mark.parametrize("name", BOTTLENECK)
def test_a_bottleneck_has_no_site_in_a_decoder(compose, name):
    with pytest.raises(UserError, match="residual and LayerNorm"):
        compose("model=smollm2", f"method={name}")


def test_bitfit_finds_nothing_to_train_in_a_decoder_without_biases(compose):
    with pytest.raises(UserError, match="nothing to train"):
        check_possible(compose("model=smollm2", "method=bitfit"))


@pytest.mark.parametrize(
    "size", [["budget=rank8"], pytest.param(["budget=custom", "budget.params=2_400_000"], marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("method", [*SIZED, "peft method.type=LORA", "peft method.type=ADALORA"])
def test_a_budget_on_a_decoder(compose, method, size):
    config = compose("model=smollm2", *f"method={method}".split(), *size)
    plan = make_plan(config, config.task.rows)
    assert abs(plan.solution.deviation) <= 0.05
