"""IncreLoRA against trajectories of the authors' released allocator (shared/golden)."""

import numpy as np
import pytest
import torch
from torch import nn

from adalora.fast import speed_up
from adalora.methods.increlora.layer import IncreLoRA
from adalora.methods.increlora.options import IncreLoRAConfig
from adalora.training.optimizer import build_optimizer, set_lr
from tests.tiny import Chain, training

RTOL = 1e-8


def prepared(arrays, config, **options):
    """Net with the recorded weights, and the method on it."""
    net = Chain(config["dims"])
    method = IncreLoRA(
        IncreLoRAConfig(
            init_rank=config["init_rank"], target_rank=config["target_rank"], add_rank=config["reserve"],
            top_h=config["top_h"], alpha=config["lora_alpha"], orthogonality=config["orth_reg_weight"],
            beta1=config["beta1"], beta2=config["beta2"], initial_steps=config["increment_warmup_steps"],
            interval=config["increment_interval"], advance_learning=config["advance_learning"], **options,
        )
    )  # fmt: skip
    method.attach(net, net.targets(), config["total_steps"])
    with torch.no_grad():
        for i, layer in enumerate(net.layers):
            for key in ("weight", "bias"):
                getattr(layer, key).copy_(torch.tensor(arrays[f"init/layer{i}/{key}"]))
            for key in ("lora_A", "lora_E", "lora_B"):
                getattr(layer, key)[0].copy_(torch.tensor(arrays[f"init/layer{i}/{key}"]))
    return net, method


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", ["increlora_a", "increlora_b"])
def test_the_whole_trajectory_is_the_authors(golden, name, fast):
    arrays, config = golden(name)
    total = config["total_steps"]
    net, method = prepared(arrays, config)
    if fast:
        speed_up(net, method)
    names = [f"layer{i}" for i in range(len(net.layers))]
    optimizer = build_optimizer(net, method, training(config["lr"], config["lr_warmup_steps"], config["weight_decay"]))
    x, y = torch.tensor(arrays["x"]), torch.tensor(arrays["y"])

    seen = {key: [] for key in ("loss", "grad_norm", "threshold", "lr_group0")}
    seen |= {f"{at}/{key}": [] for at in names for key in ("rank", "score")}
    drawn = dict.fromkeys(names, 1)  # chunks that have their recorded values
    for t in range(total):
        set_lr(optimizer, t, total, config["lr_warmup_steps"])
        loss = nn.functional.mse_loss(net(x[t]), y[t]) + method.regulariser()
        loss.backward()
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        seen["grad_norm"].append(nn.utils.clip_grad_norm_(trained, config["max_grad_norm"]).item())
        before = method.total
        method.before_step(t, optimizer)
        for layer, at in zip(net.layers, names, strict=True):
            draw_recorded(layer, arrays, at, drawn)
        optimizer.step()
        method.after_step(t)
        optimizer.zero_grad()
        seen["loss"].append(loss.item())
        seen["threshold"].append(method.threshold.item() if method.total > before else float("nan"))
        seen["lr_group0"].append(optimizer.param_groups[0]["lr"])
        for i, at in enumerate(names):
            seen[f"{at}/rank"].append(method.ranks()[f"layers.{i}"])
            seen[f"{at}/score"].append(method.S[i].item())

    for key, found in seen.items():
        np.testing.assert_allclose(found, arrays[f"traj/{key}"], rtol=RTOL, atol=0, err_msg=key)
    for layer, at in zip(net.layers, names, strict=True):
        for key, got in zip(("lora_A", "lora_E", "lora_B"), layer.slots(), strict=True):
            expected = arrays[f"final/{at}/{key}"]
            np.testing.assert_allclose(got.detach(), expected, rtol=RTOL, atol=1e-14, err_msg=f"{at} {key}")
        expected = arrays[f"final/{at}/delta_weight"]
        np.testing.assert_allclose(layer.delta_weight().detach(), expected, rtol=RTOL, atol=1e-14)


def draw_recorded(layer, arrays, at, drawn):
    """Give new reserve ranks the recorded random values."""
    for chunk in range(drawn[at], len(layer.lora_A)):
        start = sum(len(rows) for rows in layer.lora_A[1:chunk])
        rows = slice(start, start + len(layer.lora_A[chunk]))
        layer.lora_A[chunk].data.copy_(torch.tensor(arrays[f"reserve/{at}/A"][rows]))
        layer.lora_B[chunk].data.copy_(torch.tensor(arrays[f"reserve/{at}/B"][:, rows]))
    drawn[at] = len(layer.lora_A)
