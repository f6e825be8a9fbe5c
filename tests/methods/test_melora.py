"""MELoRA against the authors' layers, against LoRA block by block, and its count."""

import numpy as np
import pytest
import torch
from peft.tuners import lora as tuners
from torch import nn

from adalora.errors import UserError
from adalora.methods.lora.layer import LoRALinear
from adalora.methods.lora.options import LoRAConfig
from adalora.methods.melora.layer import MELoRALinear
from adalora.methods.melora.options import MELoRAConfig
from tests.tiny import increment


def layer(d_out, d_in, **options):
    torch.manual_seed(0)
    found = MELoRALinear(nn.Linear(d_in, d_out).double().requires_grad_(False), MELoRAConfig(**options))
    nn.init.normal_(found.lora_B)
    return found


@pytest.mark.parametrize("case", range(4))
def test_forward_gradients_and_update_are_the_authors(golden, case):
    """In two cases the minis differ in rank or alpha (D-melora-lists): the smaller ones are padded with zeros, and B
    takes the scale."""
    arrays, config = golden("melora_a")
    case = config["cases"][case]
    at, ranks, scales = case["key"], case["ranks"], case["scaling"]
    given = {key: torch.tensor(arrays[f"{at}/{key}"]) for key in ("weight", "bias", "x", "G")}
    r = max(ranks)
    alike = len(set(scales)) == 1
    melora = layer(
        case["out_features"], case["in_features"], rank=r, minis=case["n"], alpha=r * scales[0] if alike else r
    )
    folded = [1.0 if alike else scale for scale in scales]
    with torch.no_grad():
        melora.weight.copy_(given["weight"])
        melora.bias.copy_(given["bias"])
        melora.lora_A.zero_()
        melora.lora_B.zero_()
        for i, rank in enumerate(ranks):
            melora.lora_A[i, :rank] = torch.tensor(arrays[f"{at}/A{i}"])
            melora.lora_B[i, :, :rank] = torch.tensor(arrays[f"{at}/B{i}"]) * folded[i]
    x = given["x"].requires_grad_(True)
    y = melora(x)
    (y * given["G"]).sum().backward()
    found = {"y": y, "grad_x": x.grad, "delta_weight": melora.delta_weight()}
    for i, rank in enumerate(ranks):
        found[f"grad_A{i}"] = melora.lora_A.grad[i, :rank]
        found[f"grad_B{i}"] = melora.lora_B.grad[i, :, :rank] * folded[i]
    for key, value in found.items():
        np.testing.assert_allclose(value.detach().numpy(), arrays[f"{at}/{key}"], rtol=0, atol=1e-10, err_msg=key)


def test_one_mini_is_lora_also_peft_s():
    melora = layer(10, 14, rank=3, minis=1, alpha=5)
    lora = LoRALinear(nn.Linear(14, 10).double(), LoRAConfig(rank=3, alpha=5))
    theirs = tuners.Linear(
        nn.Linear(14, 10).double(), adapter_name="a", config=tuners.LoraConfig(), r=3, lora_alpha=5
    ).double()  # fmt: skip
    with torch.no_grad():
        for A, B in (
            (lora.lora_A, lora.lora_B),
            (theirs.lora_A["a"].weight, theirs.lora_B["a"].weight),
        ):
            A.copy_(melora.lora_A[0])
            B.copy_(melora.lora_B[0])
    for ours in (melora, lora):
        torch.testing.assert_close(ours.delta_weight(), theirs.get_delta_weight("a"))
        with torch.no_grad():
            ours.weight.copy_(theirs.base_layer.weight)
            ours.bias.copy_(theirs.base_layer.bias)
        x = torch.randn(4, 14, dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x))


def test_a_starts_with_the_fan_in_of_a_slice():
    A = layer(8, 4096, rank=8, minis=4).lora_A
    assert 0.99 < A.abs().max() * 32 <= 1  # sqrt(4 / 4096) = 1 / 32
    torch.testing.assert_close(A.std().item() * 32, 3**-0.5, rtol=0.01, atol=0)


def test_every_slice_has_a_dropout_mask_of_its_own():
    melora = layer(8, 512, rank=1, minis=2, dropout=0.5).train()
    with torch.no_grad():
        melora.lora_A.fill_(1)
        melora.lora_B.fill_(1)
    first, second = increment(melora, torch.ones(1, 512, dtype=torch.float64))[0, [0, 4]] / melora.scale
    assert first != second
    assert all(200 < value < 312 for value in (first, second))  # 256 +- 16 a standard deviation


def test_minis_that_don_t_divide_a_side_are_refused():
    message = r"method\.minis=5 doesn't divide both sides of a module of 10 x 12"
    with pytest.raises(UserError, match=message):
        MELoRAConfig(rank=1, minis=5).count({"a": (10, 12)})
    with pytest.raises(UserError, match=message):
        layer(10, 12, rank=1, minis=5)
