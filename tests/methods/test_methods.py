"""What every method must do: count, start as the base model, have exact gradients, merge."""

import pytest
import torch
from torch import nn

from adalora.backbones.position_query import bypass_position_query
from adalora.backbones.targets import target_modules
from adalora.config.methods import AdaLoRAConfig, FullConfig, LoRAConfig
from adalora.errors import UserError
from adalora.methods import create
from adalora.methods.adalora import SVDLinear
from adalora.methods.linear import merge
from adalora.methods.lora import LoRALinear

CONFIGS = {  # the test matrix: a row a method
    "adalora": AdaLoRAConfig(init_rank=3, target_rank=2),
    "lora": LoRAConfig(rank=3),
    "full": FullConfig(),
}
LOW_RANK = ["adalora", "lora"]


@pytest.fixture
def model(tiny_model):
    from transformers import DebertaV2ForSequenceClassification

    torch.manual_seed(0)
    return DebertaV2ForSequenceClassification.from_pretrained(tiny_model).double().eval().requires_grad_(False)


def attach(model, name, compose):
    method = create(CONFIGS[name])
    config = compose("task=sst2").model
    config.path = "tiny"
    method.attach(model, target_modules(model, config), total_steps=20)
    return method


def wake(model):
    """Give every added tensor values, so that the increment is not zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) / 3)


INPUTS = {
    "input_ids": torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]]),
    "attention_mask": torch.tensor([[1] * 5, [1] * 4 + [0]]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fresh_method_leaves_the_function_as_it_was(model, compose, name):
    before = model(**INPUTS).logits
    attach(model, name, compose)
    assert torch.equal(model(**INPUTS).logits, before)


@pytest.mark.parametrize("name", LOW_RANK)
def test_the_count_is_the_number_of_trained_parameters(model, compose, name):
    method = attach(model, name, compose)
    shapes = {path: (m.out_features, m.in_features) for path, m in method.modules.items()}
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert method.count(shapes).peak == trained


@pytest.mark.parametrize("name", LOW_RANK)
def test_merging_keeps_the_function_and_leaves_plain_maps(model, compose, name):
    attach(model, name, compose)
    wake(model)
    before = model(**INPUTS).logits
    merge(model)
    torch.testing.assert_close(model(**INPUTS).logits, before)
    assert not any(isinstance(m, LoRALinear | SVDLinear) for m in model.modules())


def test_merging_is_refused_where_positions_skip_the_adapter(model, compose):
    attach(model, "lora", compose)
    bypass_position_query(model)
    with pytest.raises(UserError, match="pos_query_base_only"):
        merge(model)


@pytest.mark.parametrize("kind", [LoRALinear, SVDLinear])
def test_gradients_by_finite_differences(kind):
    torch.manual_seed(0)
    config = LoRAConfig(rank=2) if kind is LoRALinear else AdaLoRAConfig(init_rank=2, target_rank=1)
    layer = kind(nn.Linear(4, 3).double().requires_grad_(False), config)
    wake(layer)
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    trained = [p for p in layer.parameters() if p.requires_grad]

    def forward(x, *values):
        names = [name for name, p in layer.named_parameters() if p.requires_grad]
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(forward, (x, *trained))


@pytest.mark.parametrize("kind", [LoRALinear, SVDLinear])
def test_the_output_has_the_base_s_type_under_autocast(kind):
    config = LoRAConfig(rank=2) if kind is LoRALinear else AdaLoRAConfig(init_rank=2, target_rank=1)
    layer = kind(nn.Linear(4, 3), config)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 4)).dtype == torch.bfloat16


def test_the_scale_is_of_the_initial_rank_and_lora_s_of_its_rank():
    base = nn.Linear(4, 3)
    assert SVDLinear(base, AdaLoRAConfig(init_rank=4, target_rank=2, alpha=32)).scale == 32 / (4 + 1e-5)
    assert LoRALinear(base, LoRAConfig(rank=2, alpha=32)).scale == 16


def test_dropout_acts_in_training_only():
    layer = LoRALinear(nn.Linear(64, 3), LoRAConfig(rank=2, dropout=0.5))
    wake(layer)
    x = torch.randn(1, 64)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))
