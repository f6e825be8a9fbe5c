"""LoRA's initial values and its orthogonality term, against definitions written out."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adalora.errors import UserError
from adalora.methods.lora.layer import LoRA, LoRALinear
from adalora.methods.lora.options import LoRAConfig


@pytest.mark.parametrize("d_in", [300, 1200])
def test_the_library_s_initial_values_are_uniform_within_one_over_the_root_of_the_inputs(d_in):
    """loralib: kaiming_uniform_(A, a=sqrt(5)), that is U(-b, b) with b = sqrt(6 / ((1 + 5) d_in))."""
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(d_in, 7), LoRAConfig(rank=50, init="kaiming"))
    bound = 1 / math.sqrt(d_in)
    assert 0.999 * bound < layer.lora_A.abs().max() <= bound
    assert layer.lora_A.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not layer.lora_B.any()


def test_the_released_deberta_s_are_gaussian():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(1200, 7), LoRAConfig(rank=50))
    assert layer.lora_A.std().item() == pytest.approx(0.02, rel=0.02)
    assert layer.lora_A.abs().max() > 3 * 0.02


@pytest.mark.parametrize(
    "model, task, init",
    [
        ("deberta_v3_base", "rte", "normal"),
        ("deberta_v3_base", "squad_v2", "kaiming"),
        ("bart_large", "xsum", "kaiming"),
        ("deberta_minilm", "squad_v1", "kaiming"),
        ("bart_minilm", "xsum", "kaiming"),
    ],
)
@pytest.mark.parametrize("recipe", ["paper", pytest.param("official_scripts", marks=pytest.mark.slow)])
def test_each_task_starts_as_its_released_code_does(compose, model, task, init, recipe):
    """docs/deviations.md: D-lora-init."""
    assert compose(f"model={model}", f"task={task}", "method=lora", f"recipe={recipe}").method.init == init


def test_an_unknown_start_or_a_bad_weight_is_refused():
    with pytest.raises(UserError, match=r"method\.init=xavier"):
        LoRAConfig(init="xavier")
    with pytest.raises(UserError, match=r"method\.orthogonality=-1"):
        LoRAConfig(orthogonality=-1.0)


def attached(rank, gamma):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 6), nn.Linear(6, 5)).double().requires_grad_(False)
    method = LoRA(LoRAConfig(rank=rank, orthogonality=gamma))
    method.attach(model, {str(i): linear for i, linear in enumerate(model)}, 10)
    return method


def test_the_orthogonality_term_is_the_mean_absolute_cosine():
    method = attached(3, 0.3)
    matrices = []
    for layer in method.modules.values():
        nn.init.normal_(layer.lora_B)
        matrices += [layer.lora_A, layer.lora_B.mT]
    means = [
        torch.stack([F.cosine_similarity(M[i], M[j], dim=0).abs() for i, j in itertools.combinations(range(3), 2)])
        for M in matrices
    ]
    expected = 0.3 * torch.stack(means).mean()
    torch.testing.assert_close(method.regulariser(), expected)


def test_the_orthogonality_term_is_0_where_nothing_can_overlap():
    assert attached(1, 0.3).regulariser() == 0
    assert attached(3, 0.0).regulariser() == 0


def test_b_at_0_has_no_cosine_and_no_gradient():
    method = attached(3, 0.3)
    method.regulariser().backward()
    for layer in method.modules.values():
        assert layer.lora_A.grad.isfinite().all()
        assert layer.lora_A.grad.any()
        assert not layer.lora_B.grad.any()
