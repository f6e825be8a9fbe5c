"""MoRA against the authors' layers, its definition written out, and its count."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from adalora.errors import UserError
from adalora.methods.mora.layer import MoRALinear, rotation
from adalora.methods.mora.options import MoRAConfig


def layer(d_out, d_in, **options):
    torch.manual_seed(0)
    found = MoRALinear(nn.Linear(d_in, d_out).double().requires_grad_(False), MoRAConfig(**options))
    nn.init.normal_(found.mora_M)
    return found


@pytest.mark.parametrize("name, kind, prefix", [("mora1_a", 1, ""), ("mora6_a", 6, "exact/")])
@pytest.mark.parametrize("case", range(6))
def test_forward_gradients_and_update_are_the_authors(golden, name, kind, prefix, case):
    arrays, config = golden(name)
    case = config["cases"][case]
    given = {key: torch.tensor(arrays[f"{case['key']}/{key}"]) for key in ("weight", "bias", "M", "x", "G")}
    mora = layer(case["out_features"], case["in_features"], rank=case["r"], type=kind)
    assert mora.mora_M.shape == (case["r_hat"], case["r_hat"])
    with torch.no_grad():
        for parameter, key in ((mora.weight, "weight"), (mora.bias, "bias"), (mora.mora_M, "M")):
            parameter.copy_(given[key])
    x = given["x"].requires_grad_(True)
    y = mora(x)
    (y * given["G"]).sum().backward()
    found = {"y": y, "grad_M": mora.mora_M.grad, "grad_x": x.grad, "delta_weight": mora.delta_weight()}
    for key, value in found.items():
        expected = arrays[f"{case['key']}/{prefix}{key}"]
        np.testing.assert_allclose(value.detach().numpy(), expected, rtol=0, atol=1e-10, err_msg=key)


def test_the_rotation_is_the_authors_in_float64(golden):
    arrays, config = golden("mora6_a")
    for case in config["cases"]:
        cos, sin = rotation(case["blocks"], case["r_hat"])
        np.testing.assert_allclose(cos[:, 0], arrays[f"{case['key']}/exact/cos"], rtol=0, atol=1e-14)
        np.testing.assert_allclose(sin[:, 0], arrays[f"{case['key']}/exact/sin"], rtol=0, atol=1e-14)


def by_definition(M, kind, d_out, x):
    """One row x, element by element, by the paper's formulas."""
    s, d_in = len(M), len(x)
    c = math.ceil(d_in / s)
    blocks = [[x[(i * s + j) % d_in] for j in range(s)] for i in range(c)]
    if kind == 1:
        u = [sum(block[j] for block in blocks) for j in range(s)]
        v = [sum(M[o][j] * u[j] for j in range(s)) for o in range(s)]
    else:
        v, h = [], s // 2
        for i, block in enumerate(blocks):
            angle = [i * 10000 ** (-2 * j / s) for j in range(h)]
            pairs = [complex(block[j], block[j + h]) * complex(math.cos(a), math.sin(a)) for j, a in enumerate(angle)]
            turned = [z.real for z in pairs] + [z.imag for z in pairs]
            v += [sum(M[o][j] * turned[j] for j in range(s)) for o in range(s)]
    return [v[o % len(v)] for o in range(d_out)]


@pytest.mark.parametrize("kind", [1, 6])
@pytest.mark.parametrize("seed", range(8))
def test_random_shapes_by_the_definition(kind, seed):
    draw = random.Random(seed)
    d_out, d_in = draw.randint(2, 40), draw.randint(2, 40)
    mora = layer(d_out, d_in, rank=draw.randint(1, 4), type=kind)
    x = torch.randn(2, 3, d_in, dtype=torch.float64)
    expected = [[by_definition(mora.mora_M.tolist(), kind, d_out, row.tolist()) for row in rows] for rows in x]
    torch.testing.assert_close(mora.increment(x), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(mora.delta_weight(), mora.increment(torch.eye(d_in, dtype=torch.float64)).T)


def test_type_6_reaches_full_rank_and_type_1_the_side():
    assert torch.linalg.matrix_rank(layer(96, 96, rank=2, type=6).delta_weight()) == 96
    assert torch.linalg.matrix_rank(layer(96, 96, rank=2, type=1).delta_weight()) == 20  # root of 384, rounded


def test_type_6_leaves_most_inputs_of_a_narrowing_module_alone_and_type_1_none():
    used = {kind: layer(64, 256, rank=1, narrowing_type=kind).delta_weight().any(0).sum() for kind in (None, 6, 1)}
    assert used == {None: 72, 6: 72, 1: 256}  # four blocks of 18 reach 64 outputs
    wide = layer(256, 64, rank=1, narrowing_type=1)  # widening: stays at type 6
    assert torch.linalg.matrix_rank(wide.delta_weight()) == 64


@pytest.mark.parametrize("kind", [1, 6])
@pytest.mark.parametrize("seed", range(5))
def test_the_count_of_random_shapes_is_near_lora_s_and_never_more_than_the_map(kind, seed):
    draw = random.Random(seed)
    rank, shapes = draw.randint(1, 9), {str(i): (draw.randint(16, 300), draw.randint(16, 300)) for i in range(9)}
    for d_out, d_in in shapes.values():
        (count, kept) = MoRAConfig(rank=rank, type=kind).count({"": (d_out, d_in)})
        lora = rank * (d_out + d_in)
        assert count == kept <= min(d_out, d_in) ** 2
        if lora <= min(d_out, d_in) ** 2:  # the side is off the root by at most 1/2 up and 1 1/2 down
            assert (math.sqrt(lora) - (0.5 if kind == 1 else 1.5)) ** 2 <= count <= (math.sqrt(lora) + 0.5) ** 2
    total = MoRAConfig(rank=rank, type=kind).count(shapes).peak
    assert total == sum(layer(*shape, rank=rank, type=kind).mora_M.numel() for shape in shapes.values())


def test_the_tables_move_with_the_model_and_are_in_no_state_dict():
    mora = layer(12, 12, rank=1)
    assert set(mora.state_dict()) == {"weight", "bias", "mora_M"}
    assert mora.float().cos.dtype == torch.float32


def test_a_module_too_small_to_rotate_is_refused():
    with pytest.raises(UserError, match=r"8 x 1 is too small.*method\.type=1"):
        MoRAConfig(rank=1).count({"a": (8, 1)})
    assert MoRAConfig(rank=1, type=1).count({"a": (8, 1)}).peak == 1
