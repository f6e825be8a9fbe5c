"""The methods on an encoder-decoder: placement, counts, merging."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adalora.errors import UserError
from adalora.methods.discovery import create
from adalora.methods.linear import AdaptedLinear, merge, merged, unmergeable
from adalora.training.optimizer import build_optimizer
from tests.methods.matrix import BOTTLENECK, CONFIGS
from tests.tiny import bart, shapes_of, targets_of, trained, wake

LOW_RANK = ["adalora", "lora", "adalora method.form=doublets"]
BATCH = {
    "input_ids": torch.tensor([[0, 5, 6, 7, 2], [0, 8, 9, 2, 1]]),
    "attention_mask": torch.tensor([[1] * 5, [1] * 4 + [0]]),
    "labels": torch.tensor([[0, 7, 2], [0, 9, 2]]),
}


@pytest.fixture
def model():
    """A random BART of 2 + 2 layers in fp64, frozen."""
    return bart(width=8, vocab_size=20, init_std=0.3)


@pytest.fixture
def attach(model, compose):
    """`attach("lora")`: the method, at its targets in `model`."""

    def go(name):
        targets = targets_of(model, compose("model=bart_large", f"method={CONFIGS[name].name}"))
        method = create(CONFIGS[name].with_steps(20))
        counted = method.config.count(shapes_of(targets)).peak if name in BOTTLENECK else None
        method.attach(model, targets, total_steps=20)
        return method, counted

    return go


@pytest.mark.parametrize("name", [*BOTTLENECK, "bitfit", "full"])
def test_every_trained_parameter_is_reached_and_names_of_the_base_stay(model, attach, name):
    names = set(model.state_dict())
    attach(name)
    if name in BOTTLENECK:
        wake(model)
    assert names <= set(model.state_dict())
    model.train()(**BATCH).loss.backward()
    # keys' biases shift every score of a row alike: their gradient is 0, but there
    assert all(p.grad is not None for p in trained(model))


@pytest.mark.parametrize("name, number", [("houlsby", 2 * 2 + 3 * 2), ("pfeiffer", 4)])
def test_a_bottleneck_with_up_at_0_is_the_identity(model, attach, name, number):
    before = model(**BATCH).logits
    _, counted = attach(name)
    assert counted == sum(p.numel() for p in trained(model))
    fresh = model(**BATCH).logits
    assert 0 < (fresh - before).abs().max() < 0.1
    ups = [path for path, _ in model.named_modules() if path.endswith(".up")]
    assert len(ups) == number
    for path in ups:
        nn.init.zeros_(model.get_submodule(path).weight)
    assert torch.equal(model(**BATCH).logits, before)


def seen(model, layer, names):
    """Inputs and outputs of a layer's modules in one forward pass."""
    found = {}
    hooks = [
        layer.get_submodule(name).register_forward_hook(lambda m, x, y, name=name: found.update({name: (x[0], y)}))
        for name in names
    ]
    model(**BATCH)
    for hook in hooks:
        hook.remove()
    return found


def normalised(norm, x):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (var + norm.eps).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_houlsby_follows_each_module_before_residual_and_layernorm(model, attach, side):
    attach("houlsby")
    wake(model)
    layer = model.model.get_submodule(side).layers[1]
    pairs = {"self_attn.out_proj": "self_attn_layer_norm", "fc2": "final_layer_norm"}
    if side == "decoder":
        pairs["encoder_attn.out_proj"] = "encoder_attn_layer_norm"
    residuals = {"self_attn.out_proj": "self_attn.q_proj", "fc2": "fc1", "encoder_attn.out_proj": "encoder_attn.q_proj"}
    found = seen(model, layer, [*pairs, *pairs.values(), *residuals.values()] if side == "decoder" else
                 [*pairs, *pairs.values(), "self_attn.q_proj", "fc1"])  # fmt: skip
    for name, norm in pairs.items():
        linear = layer.get_submodule(name)
        h = found[name][0] @ linear.weight.T + linear.bias
        z = h @ linear.down.weight.T + linear.down.bias
        h = h + (z * z.sigmoid()) @ linear.up.weight.T + linear.up.bias
        expected = normalised(layer.get_submodule(norm), h + found[residuals[name]][0])
        torch.testing.assert_close(found[norm][1], expected)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_pfeiffer_is_the_released_form_after_the_ffn(model, attach, side):
    """out = LN(h + up(relu(down(LN(h + x)))) + x), written in h and x, which its module never sees."""
    attach("pfeiffer")
    wake(model)
    layer = model.model.get_submodule(side).layers[1]
    found = seen(model, layer, ["fc1", "fc2", "final_layer_norm"])
    x, h, norm = found["fc1"][0], found["fc2"][1], layer.final_layer_norm
    z = normalised(norm, h + x) @ norm.down.weight.T + norm.down.bias
    expected = normalised(norm, h + z.clamp(min=0) @ norm.up.weight.T + norm.up.bias + x)
    torch.testing.assert_close(found["final_layer_norm"][1], expected)
    assert not hasattr(layer.self_attn_layer_norm, "down")


def test_bitfit_trains_all_biases_and_the_logits_buffer_is_none_of_them(model, attach):
    attach("bitfit")
    d, ffn = 8, 16
    encoder = 4 * d + ffn + d + 2 * d
    decoder = 8 * d + ffn + d + 3 * d
    assert sum(p.numel() for p in trained(model)) == 2 * (encoder + decoder) + 2 * d
    assert "final_logits_bias" in dict(model.named_buffers())


def test_a_bottleneck_s_weights_are_decayed_though_they_sit_in_a_layernorm(model, attach, compose):
    method, _ = attach("pfeiffer")
    optimizer = build_optimizer(model, method, compose("method=pfeiffer").training)
    decayed, plain = optimizer.param_groups
    assert all(p.dim() == 2 for p in decayed["params"])
    assert len(decayed["params"]) == len(plain["params"]) == 8


@pytest.mark.parametrize("name", BOTTLENECK)
def test_a_bottleneck_runs_under_autocast_and_can_t_be_merged(model, attach, name):
    attach(name)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.float()(**BATCH).logits.isfinite().all()
    assert "bottleneck with a non-linearity" in unmergeable(model)
    with pytest.raises(UserError, match="bottleneck with a non-linearity"), merged(model):
        pass


def counting(function, calls):
    """Wrap `function` so that it records its calls in `calls`."""
    return lambda *args: calls.append(1) or function(*args)


@pytest.mark.parametrize("name", LOW_RANK)
def test_merging_keeps_the_function_and_what_is_generated(model, attach, name):
    attach(name)
    wake(model)
    logits = model(**BATCH).logits
    inputs = {key: BATCH[key] for key in ("input_ids", "attention_mask")}
    written = model.generate(**inputs, num_beams=3, max_length=8)
    calls = []
    for module in model.modules():
        if isinstance(module, AdaptedLinear):
            module.base = counting(module.base, calls)
    with merged(model), merged(model), torch.inference_mode():
        torch.testing.assert_close(model(**BATCH).logits, logits)
        assert torch.equal(model.generate(**inputs, num_beams=3, max_length=8), written)
    assert not calls  # not one increment was computed
    assert torch.equal(model(**BATCH).logits, logits)
    assert len(calls) == 32
    merge(model)
    torch.testing.assert_close(model(**BATCH).logits, logits)
    assert not any(isinstance(module, AdaptedLinear) for module in model.modules())


def weights_and_losses(model, method, evaluate):
    """Five AdamW steps with dropout; `evaluate(model)` after each."""
    torch.manual_seed(2)
    optimizer = torch.optim.AdamW(trained(model), lr=0.05)
    losses = []
    for t in range(5):
        model.train()
        loss = model(**BATCH).loss + method.regulariser()
        loss.backward()
        optimizer.step()
        method.after_step(t)
        optimizer.zero_grad()
        losses.append(loss.item())
        evaluate(model.eval())
    return losses, {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", ["adalora", "lora"])
def test_training_goes_on_bit_for_bit_after_merged_evaluations(model, attach, name):
    method, _ = attach(name)
    plain, other = (model, method), copy.deepcopy((model, method))

    def fails_inside(model):
        with pytest.raises(ValueError, match="out of"), merged(model), torch.inference_mode():
            model(**BATCH)
            raise ValueError("out of the evaluation")

    losses, state = weights_and_losses(*plain, evaluate=lambda model: None)
    again, same = weights_and_losses(*other, evaluate=fails_inside)
    assert losses == again
    assert losses[-1] < losses[0]
    assert all(torch.equal(state[key], same[key]) for key in state)


def test_merged_reaches_through_a_wrapper(model, attach):
    """Of data parallelism: names get the same prefix from DataParallel as from DistributedDataParallel, whose
    process group can hang when it is destroyed (torch 2.13 joins its threads and holds the interpreter's lock)."""
    attach("lora")
    wake(model)
    wrapped = nn.DataParallel(model)
    logits = wrapped(**BATCH).logits
    layer = model.model.encoder.layers[0].fc1
    with merged(wrapped):
        assert layer.is_merged
        torch.testing.assert_close(wrapped(**BATCH).logits, logits)
    assert not layer.is_merged
    assert torch.equal(wrapped(**BATCH).logits, logits)
    wrapped(**BATCH).loss.backward()
    assert all(p.grad is not None for p in trained(model))


def test_folding_stays_in_full_precision_under_autocast(model, attach):
    attach("lora")
    wake(model)
    layer, x = model.model.encoder.layers[0].fc1, torch.randn(3, 8, dtype=torch.float64)
    exact = F.linear(x, layer.weight + layer.delta_weight(), layer.bias)
    with torch.autocast("cpu", torch.bfloat16), merged(model):
        assert torch.equal(layer(x), exact)
