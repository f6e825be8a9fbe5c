"""AdaLoRA against trajectories of the authors' released allocator (shared/golden)."""

import numpy as np
import pytest
import torch
from torch import nn

from adalora.fast import speed_up
from adalora.methods.adalora.layer import AdaLoRA
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.training.optimizer import build_optimizer, set_lr
from tests.tiny import Chain, training

RTOL = 1e-8


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", ["adalora_a", "adalora_b"])
def test_the_whole_trajectory_is_the_authors(golden, name, fast):
    arrays, config = golden(name)
    total = config["total_steps"]
    net = Chain(config["dims"])
    names = [f"layer{i}" for i in range(len(net.layers))]
    method = AdaLoRA(
        AdaLoRAConfig(
            init_rank=config["init_rank"], target_rank=config["target_rank"], alpha=config["lora_alpha"],
            orthogonality=config["orth_reg_weight"], beta1=config["beta1"], beta2=config["beta2"],
            initial_steps=config["warmup_steps_rank"], final_steps=config["final_steps"],
            mask_interval=config["mask_interval"],
        )
    )  # fmt: skip
    method.attach(net, net.targets(), total)
    if fast:
        speed_up(net, method)
    with torch.no_grad():
        for layer, at in zip(net.layers, names, strict=True):
            for key in ("weight", "bias", "lora_A", "lora_E", "lora_B"):
                getattr(layer, key).copy_(torch.tensor(arrays[f"init/{at}/{key}"]))
    optimizer = build_optimizer(net, method, training(config["lr"], config["lr_warmup_steps"], config["weight_decay"]))
    trained = [p for p in net.parameters() if p.requires_grad]
    x, y = torch.tensor(arrays["x"]), torch.tensor(arrays["y"])

    seen = {key: [] for key in ("loss", "grad_norm", "budget", "threshold")}
    values = {at: [] for at in names}
    for t in range(total):
        set_lr(optimizer, t, total, config["lr_warmup_steps"])
        loss = nn.functional.mse_loss(net(x[t]), y[t]) + method.regulariser()
        loss.backward()
        seen["grad_norm"].append(nn.utils.clip_grad_norm_(trained, config["max_grad_norm"]).item())
        method.before_step(t, optimizer)
        optimizer.step()
        method.after_step(t)
        optimizer.zero_grad()
        masked = method.schedule.prunes_at(t) and method.budget < method.schedule.b_0
        seen["loss"].append(loss.item())
        seen["budget"].append(method.budget)
        seen["threshold"].append(method.threshold.item() if masked else float("nan"))
        for layer, at in zip(net.layers, names, strict=True):
            values[at].append(layer.lora_E.detach().clone().numpy())

    for key, found in seen.items():
        np.testing.assert_allclose(found, arrays[f"traj/{key}"], rtol=RTOL, atol=0, err_msg=key)
    for layer, at in zip(net.layers, names, strict=True):
        expected = arrays[f"traj/{at}/lora_E"]
        got = np.stack(values[at]).reshape(expected.shape)
        np.testing.assert_array_equal(got != 0, expected != 0, err_msg=f"ranks of {at}")
        np.testing.assert_allclose(got, expected, rtol=RTOL, atol=1e-14)
        for key in ("lora_A", "lora_E", "lora_B"):
            np.testing.assert_allclose(
                getattr(layer, key).detach().numpy(), arrays[f"final/{at}/{key}"], rtol=RTOL, atol=1e-14
            )
        assert method.ranks()[f"layers.{names.index(at)}"] == arrays[f"final/{at}/rank"]
