"""Checks for every method: counts, start at the base model, exact gradients, merging."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from adalora.backbones.position_query import bypass_position_query
from adalora.errors import UserError
from adalora.methods.bottleneck import BottleneckBlock
from adalora.methods.discovery import create
from adalora.methods.houlsby.layer import HoulsbyBlock
from adalora.methods.houlsby.options import HoulsbyConfig
from adalora.methods.linear import AdaptedLinear, merge, merged
from adalora.methods.lora.layer import LoRALinear
from adalora.methods.lora.options import LoRAConfig
from adalora.methods.pfeiffer.layer import PfeifferBlock
from adalora.methods.pfeiffer.options import PfeifferConfig
from tests.methods.matrix import BOTTLENECK, BUSY, CONFIGS, LINEAR, placed
from tests.tiny import INPUTS, Chain, bart, classifier, shapes_of, targets_of, trained, wake


@pytest.fixture
def model(tiny_model):
    return classifier(tiny_model)


def attach(model, name, compose):
    method = create(CONFIGS[name].with_steps(20))
    targets = targets_of(model, compose("task=sst2", *placed(name)))
    method.attach(model, targets, total_steps=20)
    return method


@pytest.mark.parametrize("name", BOTTLENECK)
def test_a_fresh_bottleneck_is_near_the_identity_and_with_up_at_0_it_is_it(model, compose, name):
    before = model(**INPUTS).logits
    shapes = shapes_of(targets_of(model, compose("task=sst2", *placed(name))))
    method = attach(model, name, compose)
    assert method.config.count(shapes).peak == sum(p.numel() for p in trained(model))
    fresh = model(**INPUTS).logits
    assert 0 < (fresh - before).abs().max() < 0.05
    blocks = [m for m in model.modules() if isinstance(m, BottleneckBlock)]
    assert len(blocks) == {"houlsby": 4, "pfeiffer": 2}[name]
    for block in blocks:
        assert block.down.bias.count_nonzero() == block.up.bias.count_nonzero() == 0
        nn.init.zeros_(block.up.weight)
    assert torch.equal(model(**INPUTS).logits, before)
    with pytest.raises(UserError, match="non-linearity"):
        merge(model)


def test_bottleneck_weights_start_at_std_0_02_in_the_base_s_type():
    torch.manual_seed(0)
    model = nn.Sequential(Block(512).double())
    create(HoulsbyConfig(width=64)).attach(model, {"0.dense": model[0].dense}, 10)
    for linear in (model[0].down, model[0].up):
        assert linear.weight.dtype == torch.float64
        assert abs(linear.weight.std().item() - 0.02) < 3e-4
        assert abs(linear.weight.mean().item()) < 5e-4


class Block(nn.Module):
    """The modules that a bottleneck needs."""

    def __init__(self, d):
        super().__init__()
        self.dense, self.dropout, self.LayerNorm = nn.Linear(d, d), nn.Dropout(0.1), nn.LayerNorm(d)
        self.requires_grad_(False)


def test_a_bottleneck_refuses_a_module_outside_such_a_block():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(UserError, match=r"pfeiffer .* 0\.0"):
        create(PfeifferConfig(width=2)).attach(model, {"0.0": model[0][0]}, 10)


@pytest.mark.parametrize(
    "kind, config", [(HoulsbyBlock, HoulsbyConfig(width=3)), (PfeifferBlock, PfeifferConfig(width=3))]
)
def test_a_bottleneck_s_gradients_by_finite_differences(kind, config):
    torch.manual_seed(0)
    block = kind(Block(5).double(), config).eval()
    wake(block)
    x, residual = torch.randn(2, 4, 5, dtype=torch.float64).requires_grad_(True)
    trained = {name: p for name, p in block.named_parameters() if p.requires_grad}
    assert set(trained) == {"down.weight", "down.bias", "up.weight", "up.bias"}

    def forward(x, residual, *values):
        return torch.func.functional_call(block, dict(zip(trained, values, strict=True)), (x, residual))

    assert torch.autograd.gradcheck(forward, (x, residual, *trained.values()))


def test_bitfit_trains_the_biases_and_nothing_else(model, compose):
    attach(model, "bitfit", compose)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.endswith(".bias")}
    assert "deberta.encoder.layer.0.output.LayerNorm.bias" in trained
    before = model(**INPUTS).logits
    merge(model)  # nothing to do
    assert torch.equal(model(**INPUTS).logits, before)


def test_a_copy_of_a_model_whose_positions_skip_the_adapter_is_on_its_own(model, compose):
    attach(model, "lora", compose)
    wake(model)
    bypass_position_query(model)
    copied, before = deepcopy(model), model(**INPUTS).logits
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    torch.testing.assert_close(copied(**INPUTS).logits, before)


@pytest.mark.parametrize("name", LINEAR)
def test_gradients_by_finite_differences(name):
    """On a widening, a square and a narrowing module; LoRTA takes the square one, as one matrix of one layer."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"linears": nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 8))})
    model.double().requires_grad_(False).forward = lambda x: model["linears"](x)
    config = replace(CONFIGS[name], matrices=1) if name == "lorta" else CONFIGS[name]
    create(config.with_steps(20)).attach(
        model, {f"linears.{i}": linear for i, linear in enumerate(model["linears"])}, total_steps=20
    )
    wake(model)
    x = torch.randn(3, 2, 8, dtype=torch.float64, requires_grad=True)
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}

    def forward(x, *values):
        return torch.func.functional_call(model, dict(zip(trained, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(forward, (x, *trained.values()), fast_mode=True)


@pytest.mark.parametrize("name", LINEAR)
def test_the_output_has_the_base_s_type_under_autocast_and_is_near_fp32_s(model, compose, name):
    attach(model.float(), name, compose)
    wake(model)
    exact = model(**INPUTS).logits
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**INPUTS).logits
        for module in model.modules():
            if isinstance(module, AdaptedLinear):
                assert module(torch.randn(2, module.in_features)).dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", LINEAR)
def test_bart_s_modules_are_adapted_and_merge(compose, name):
    model = bart()
    targets = targets_of(model, compose("model=bart_large"))
    shapes = shapes_of(targets)
    inputs = {"input_ids": torch.tensor([[0, 5, 6, 2]]), "decoder_input_ids": torch.tensor([[2, 0, 7]])}
    plain, names = model(**inputs).logits, set(model.state_dict())
    method = create(CONFIGS[name].with_backbone(model.config).with_steps(20))
    method.attach(model, targets, total_steps=20)
    assert names <= set(model.state_dict())
    assert method.config.count(shapes).peak == sum(p.numel() for p in trained(model))
    adapted = {path for path, module in model.named_modules() if isinstance(module, AdaptedLinear)}
    assert adapted == set(method.config.select(shapes))
    assert len(adapted) == (24 if name == "lorta" else 32)
    fresh = model(**inputs).logits
    assert torch.equal(fresh, plain)
    wake(model)
    before = model(**inputs).logits
    assert not torch.allclose(before, fresh)
    before.sum().backward()
    assert all(p.grad.any() for p in trained(model))
    with merged(model):  # as summaries are generated
        torch.testing.assert_close(model(**inputs).logits, before)
    assert torch.equal(model(**inputs).logits, before)
    merge(model)
    torch.testing.assert_close(model(**inputs).logits, before)
    assert not any(isinstance(m, AdaptedLinear) for m in model.modules())
    assert not trained(model)


def test_dropout_acts_in_training_only():
    layer = LoRALinear(nn.Linear(64, 3), LoRAConfig(rank=2, dropout=0.5))
    wake(layer)
    x = torch.randn(1, 64)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


@pytest.mark.parametrize("name", ["sora", "increlora"])
def test_a_method_with_groups_of_its_own_says_so_to_an_optimizer_without_them(name):
    net = Chain([8, 8])
    method = create(replace(CONFIGS[name], **BUSY.get(name, {})).with_steps(20))
    method.attach(net, net.targets(), 20)
    net(torch.randn(4, 8, dtype=torch.float64)).square().sum().backward()
    with pytest.raises(UserError, match=rf"{name} has groups .*: make the optimizer from .*groups_of\(model, method"):
        method.before_step(0, torch.optim.AdamW(trained(net), lr=0.01))
