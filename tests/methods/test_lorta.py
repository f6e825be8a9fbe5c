"""LoRTA against the authors' layers and its CP sum written out; shared factors."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from adalora.errors import UserError
from adalora.fast import speed_up
from adalora.methods.adapter import load_adapter, save_adapter
from adalora.methods.discovery import create
from adalora.methods.linear import AdaptedLinear, merge
from adalora.methods.lorta.options import LoRTAConfig
from tests.tiny import increment

FACTORS = ("A", "B", "C_h", "C_l", "C_m")


class Net(nn.Module):
    """Layers of q, k, v, o and, where `wide` is given, an FFN; every module sees the same input."""

    def __init__(self, layers, d, wide=None):
        super().__init__()
        sides = dict.fromkeys("qkvo", (d, d)) | ({"up": (wide, d), "down": (d, wide)} if wide else {})
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(d_in, d_out).double() for name, (d_out, d_in) in sides.items()})
            for _ in range(layers)
        )
        self.requires_grad_(False)

    def targets(self):
        return {f"layers.{i}.{name}": m for i, layer in enumerate(self.layers) for name, m in layer.items()}

    def forward(self, inputs):
        return {path: module(inputs[path]) for path, module in self.targets().items()}


def attached(net, fast=False, **options):
    torch.manual_seed(0)
    method = create(LoRTAConfig(**options))
    method.attach(net, net.targets(), 10)
    nn.init.normal_(net.lorta.B)
    if fast:
        speed_up(net, method)
    return method


@pytest.mark.parametrize("case", [0, 1])
def test_forward_gradients_and_updates_are_the_authors(golden, case):
    arrays, config = golden("lorta_a")
    case = config["cases"][case]
    at, net = case["key"], Net(case["layers"], case["hidden"])
    attached(
        net, rank=case["r"], heads=case["heads"], alpha=case["lora_alpha"], rank_stabilised=case["use_rslora"]
    )  # fmt: skip

    def given(path, key):
        return torch.tensor(arrays[f"{at}/{path.replace('layers.', 'layer').replace('.', '/')}/{key}"])

    with torch.no_grad():
        for name in FACTORS:
            getattr(net.lorta, name).copy_(torch.tensor(arrays[f"{at}/{name}"]))
        for path, module in net.targets().items():
            module.weight.copy_(given(path, "weight"))
            module.bias.copy_(given(path, "bias"))
    outputs = net({path: given(path, "x") for path in net.targets()})
    for path, module in net.targets().items():
        np.testing.assert_allclose(outputs[path].detach(), given(path, "y"), rtol=0, atol=1e-10)
        np.testing.assert_allclose(module.delta_weight().detach(), given(path, "delta_weight"), rtol=0, atol=1e-10)
    sum((outputs[path] * given(path, "G")).sum() for path in outputs).backward()
    for name in FACTORS:
        np.testing.assert_allclose(
            getattr(net.lorta, name).grad, arrays[f"{at}/grad_{name}"], rtol=0, atol=1e-10, err_msg=name
        )


def cp_entry(factors, scale, d, layer, matrix, out, column):
    """Entry (out, column) of an update: the CP sum over the rank."""
    head, j = divmod(column, d // len(factors.C_h))
    terms = factors.A[out] * factors.B[:, j] * factors.C_h[head] * factors.C_l[layer] * factors.C_m[matrix]
    return scale * terms.sum()


@pytest.mark.parametrize("rank, tokens", [(3, 2), (3, 50), (40, 50)])  # thin products, and the update itself
@pytest.mark.parametrize("head_side", ["as_released", "output_for_qkv"])
def test_the_attention_by_its_cp_sum(rank, tokens, head_side):
    net = Net(2, 6)
    attached(net, rank=rank, heads=3, alpha=5, head_side=head_side)
    x = torch.randn(tokens, 6, dtype=torch.float64)
    with torch.no_grad():
        outputs = net(dict.fromkeys(net.targets(), x))
        for i, (path, module) in enumerate(net.targets().items()):
            expected = torch.tensor(
                [[cp_entry(net.lorta, 5 / rank, 6, i // 4, i % 4, o, p) for p in range(6)] for o in range(6)],
                dtype=torch.float64,
            )
            if head_side == "output_for_qkv" and i % 4 < 3:
                expected = expected.T
            torch.testing.assert_close(module.delta_weight(), expected)
            torch.testing.assert_close(outputs[path], x @ (module.weight + expected).T + module.bias)


@pytest.mark.parametrize("rank", [2, 40])
def test_ffn_modules_are_slices_by_their_cp_sum(rank):
    net = Net(2, 4, wide=12)
    method = attached(net, rank=rank, heads=2, alpha=3, modules=[*"qkvo", "up", "down"])
    assert (len(net.lorta.C_l), len(net.lorta.C_m)) == (2, 10)  # 4 + 3 + 3 squares a layer
    assert method.config.count({p: m.weight.shape for p, m in net.targets().items()}).peak == rank * (
        4 + 2 + 2 + 2 + 10
    )
    with torch.no_grad():
        for layer, modules in enumerate(net.layers):
            for name, start in (("up", 4), ("down", 7)):
                squares = [
                    torch.tensor(
                        [[cp_entry(net.lorta, 3 / rank, 4, layer, m, o, p) for p in range(4)] for o in range(4)],
                        dtype=torch.float64,
                    )
                    for m in range(start, start + 3)
                ]
                expected = torch.cat(squares, 0 if name == "up" else 1)
                torch.testing.assert_close(modules[name].delta_weight(), expected)
                x = torch.randn(3, 5, modules[name].in_features, dtype=torch.float64)
                torch.testing.assert_close(increment(modules[name], x), x @ expected.T)


def test_without_modules_only_the_square_modules_are_adapted():
    net = Net(2, 4, wide=12)
    method = attached(net, rank=2, heads=2)
    adapted = {path for path, module in net.targets().items() if isinstance(module, AdaptedLinear)}
    assert adapted == {path for path in net.targets() if path[-1] in "qkvo"}
    shapes = {path: tuple(module.weight.shape) for path, module in net.targets().items()}
    assert set(method.config.select(shapes)) == adapted


@pytest.mark.parametrize("rank", [2, 20])
@pytest.mark.parametrize("head_side", ["as_released", "output_for_qkv"])
def test_gradients_by_finite_differences(rank, head_side):
    net = Net(1, 4)
    attached(net, fast=True, rank=rank, heads=2, head_side=head_side)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    names = [f"lorta.{name}" for name in FACTORS]

    def forward(x, *values):
        inputs = dict.fromkeys(net.targets(), x)
        return tuple(torch.func.functional_call(net, dict(zip(names, values, strict=True)), (inputs,)).values())

    assert torch.autograd.gradcheck(forward, (x, *net.lorta.parameters()), fast_mode=True)


def test_the_factors_are_in_the_model_once_and_formed_once_a_pass(monkeypatch):
    net = Net(3, 4)
    attached(net, fast=True, rank=2, heads=2)
    trained = [name for name, p in net.named_parameters(remove_duplicate=False) if p.requires_grad]
    assert trained == [f"lorta.{name}" for name in FACTORS]
    formed, products = [], net.lorta.products
    monkeypatch.setattr(net.lorta, "products", lambda: formed.append(1) or products())
    x = {path: torch.randn(2, 4, dtype=torch.float64) for path in net.targets()}
    first = net(x)
    assert len(formed) == 1
    with torch.no_grad():
        net.lorta.B.mul_(2)  # nothing of a pass is left for the next
    second = net(x)
    for path, module in net.targets().items():
        base = nn.functional.linear(x[path], module.weight, module.bias)
        torch.testing.assert_close(second[path] - base, 2 * (first[path] - base))
        torch.testing.assert_close(module(x[path]), second[path])  # alone, outside of a pass


def test_a_pass_that_fails_leaves_nothing_behind():
    net = Net(1, 4)
    attached(net, fast=True, rank=2, heads=2)
    with pytest.raises(KeyError):
        net({})
    assert net.layers[0]["q"].together.current is None


@pytest.mark.parametrize("fast", [False, True])
def test_a_copy_has_factors_of_its_own_and_merging_takes_them_out(fast):
    net = Net(2, 4)
    attached(net, fast, rank=2, heads=2)
    x = {path: torch.randn(2, 4, dtype=torch.float64) for path in net.targets()}
    before = net(x)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.lorta.B.zero_()
    assert not torch.equal(other(x)["layers.0.q"], before["layers.0.q"])
    torch.testing.assert_close(net(x), before, rtol=0, atol=0)
    merge(net)
    torch.testing.assert_close(net(x), before)
    assert not hasattr(net, "lorta")
    assert not any(p.requires_grad for p in net.parameters())
    assert not (net._forward_hooks or net._forward_pre_hooks)


def test_a_saved_adapter_is_the_five_factors(tmp_path):
    net, other = Net(2, 4), Net(2, 4)
    attached(net, rank=2, heads=2)
    create(LoRTAConfig(rank=2, heads=2)).attach(other, other.targets(), 10)
    other.load_state_dict(net.state_dict() | {"lorta.B": torch.zeros_like(net.lorta.B)})
    save_adapter(tmp_path / "adapter", net, {})
    assert set(load_file(tmp_path / "adapter" / "adapter.safetensors")) == {f"lorta.{name}" for name in FACTORS}
    load_adapter(tmp_path / "adapter", other)
    x = {path: torch.randn(2, 4, dtype=torch.float64) for path in net.targets()}
    torch.testing.assert_close(other(x), net(x), rtol=0, atol=0)


def test_initial_values():
    net = Net(2, 64)
    create(LoRTAConfig(rank=512, heads=4)).attach(net, net.targets(), 1)
    assert 0.99 < net.lorta.A.abs().max() * 512**0.5 <= 1
    for name, rows in (("C_h", 4), ("C_l", 2), ("C_m", 4)):
        C = getattr(net.lorta, name)
        assert C.shape == (rows, 512)
        assert 0.97 < C.abs().max() * (512 / 6) ** 0.5 <= 1
    assert net.lorta.B.count_nonzero() == 0
    smaller = Net(2, 64)
    create(LoRTAConfig(rank=512, heads=4, init_scale=1)).attach(smaller, smaller.targets(), 1)
    assert 0.97 < smaller.lorta.C_h.abs().max() * 512**0.5 <= 1


def test_the_grid_follows_grouped_query_attention():
    """Keys and values are smaller than queries, so a layer has two squares."""
    narrow = {f"l.{i}.{name}": (2, 6) for i in range(30) for name in "kv"}
    grid = LoRTAConfig(rank=1, heads=2).grid({f"l.{i}.{name}": (6, 6) for i in range(30) for name in "qo"} | narrow)
    assert (grid.d, grid.layers, grid.matrices) == (6, 30, 2)
    assert [grid.first[f"l.{i}.o"] for i in range(3)] == [1, 3, 5]


@pytest.mark.parametrize(
    "shapes, options, message",
    [
        ({"a": (6, 4)}, {}, r"adapts the square modules, but there are none"),
        ({"a": (6, 6), "b": (6, 8)}, {"modules": ["a", "b"]}, r"can't split b of 6 x 8 into squares of 6"),
        ({"a": (4, 4), "b": (6, 6)}, {}, r"can't split b of 6 x 6 into squares of 4"),
        ({str(i): (6, 6) for i in range(4)}, {"heads": 4}, r"method\.heads=4 doesn't divide 6"),
        (
            {str(i): (6, 6) for i in range(6)},
            {"matrices": 4},
            r"method\.matrices=4 doesn't divide the 6 squares of 6 x 6",
        ),
        (  # layers that differ
            {f"l.{i}.{name}": (6, 6) for i in range(3) for name in "qo"} | {"l.0.k": (6, 6), "l.0.v": (6, 6)},
            {},
            r"takes 4 squares of 6 x 6 for a layer, but l\.1 has 2: set method\.matrices, or",
        ),
        (
            {f"l.{i}.{name}": (6, 6) for i in range(3) for name in "qo"},
            {"head_side": "output_for_qkv"},
            r"has 2 square modules",
        ),
    ],
)
def test_what_doesn_t_fit_is_refused(shapes, options, message):
    with pytest.raises(UserError, match=message):
        LoRTAConfig(rank=1, **{"heads": 2} | options).count(shapes)
