"""Placement, scale and the relative-position path against the authors' GLUE model (shared/golden)."""

import numpy as np
import pytest
import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from adalora.backbones.position_query import bypass_position_query
from adalora.fast import swap
from adalora.fast.attention import SWAPS
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.bitfit.options import BitFitConfig
from adalora.methods.discovery import create
from adalora.methods.houlsby.options import HoulsbyConfig
from adalora.methods.lora.options import LoRAConfig
from adalora.methods.pfeiffer.options import PfeifferConfig
from tasks.classification.task_type import task_loss

PER_LAYER = (
    "attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj",
    "attention.output.dense", "intermediate.dense", "output.dense",
)  # fmt: skip
CONFIGS = {
    "plain": lambda settings: BitFitConfig(),
    "lora": lambda settings: LoRAConfig(rank=settings["rank"], alpha=settings["alpha"]),
    "adalora": lambda settings: AdaLoRAConfig(init_rank=settings["rank"], target_rank=2, alpha=settings["alpha"]),
    "houlsby": lambda settings: HoulsbyConfig(width=settings["width"]),
    "pfeiffer": lambda settings: PfeifferConfig(width=settings["width"]),
}
PLACES = {"houlsby": ("attention.output.dense", "output.dense"), "pfeiffer": ("output.dense",)}


def build(arrays, config, exact=False, bypassed=True):
    """The tiny classifier with the recorded weights and an attached method."""
    model = DebertaV2ForSequenceClassification(DebertaV2Config(**config["model_config"])).double()
    state = {key.removeprefix("weights/"): torch.tensor(arrays[key]) for key in arrays if key.startswith("weights/")}
    model.load_state_dict(state)
    model.requires_grad_(False)
    kind = config["variant"]
    names = set(model.state_dict())
    paths = [f"deberta.encoder.layer.{i}.{path}" for i in range(2) for path in PLACES.get(kind, PER_LAYER)]
    method = create(CONFIGS[kind](config["method"]).with_steps(100))
    method.attach(model, {path: model.get_submodule(path) for path in paths}, total_steps=100)
    assert names <= set(model.state_dict())  # the base's names stay
    if exact:
        swap(model, SWAPS)
    if bypassed:
        bypass_position_query(model)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for key in arrays:
            if key.startswith("adapter/"):
                parameters[ours(key.removeprefix("adapter/"))].copy_(torch.tensor(arrays[key]))
    model.pooler.requires_grad_(True)
    model.classifier.requires_grad_(True)
    return model.eval()


def ours(recorded):
    """Map a recorded tensor's name to ours: its module's path, then `lora_A`, or `down.weight` for `down_weight`."""
    path, _, name = recorded.rpartition("/")
    return f"{path}.{name.replace('_', '.') if name.startswith(('down', 'up')) else name}".lstrip(".")


@pytest.mark.parametrize("variant", CONFIGS)
@pytest.mark.parametrize("attention", ["exact", "eager"])
def test_forward_and_gradients_are_the_authors(golden, variant, attention):
    arrays, config = golden(f"deberta_a_{variant}")
    model = build(arrays, config, exact=attention == "exact")
    mask = torch.tensor(arrays["attention_mask"])
    out = model(torch.tensor(arrays["input_ids"]), attention_mask=mask, output_hidden_states=True)
    loss = task_loss(out.logits, torch.tensor(arrays["labels"]))
    loss.backward()

    first = torch.stack([state[:, 0] for state in out.hidden_states]).detach().numpy()
    np.testing.assert_allclose(first, arrays["first_token"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(out.logits.detach().numpy(), arrays["logits"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(loss.item(), arrays["loss"], rtol=0, atol=1e-9)
    parameters = dict(model.named_parameters())
    compared = 0
    for key in arrays:
        if key.startswith("grad/"):
            name = ours(key.removeprefix("grad/").removeprefix("adapter/"))
            np.testing.assert_allclose(parameters[name].grad.numpy(), arrays[key], rtol=0, atol=1e-9, err_msg=name)
            compared += 1
    assert compared == sum(p.requires_grad for p in parameters.values())


def test_adapting_both_query_calls_gives_another_function(golden):
    arrays, config = golden("deberta_a_lora")
    released = build(arrays, config)
    both = build(arrays, config, bypassed=False)
    inputs = {"input_ids": torch.tensor(arrays["input_ids"]), "attention_mask": torch.tensor(arrays["attention_mask"])}
    assert (released(**inputs).logits - both(**inputs).logits).abs().max() > 1e-6
