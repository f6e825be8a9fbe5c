"""Placement, scale and the relative-position path against the authors' GLUE model (shared/golden)."""

import numpy as np
import pytest
import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from adalora.backbones.attention import use_exact_attention
from adalora.backbones.position_query import bypass_position_query
from adalora.config.methods import AdaLoRAConfig, LoRAConfig
from adalora.methods import create
from adalora.training.evaluate import task_loss

PER_LAYER = (
    "attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj",
    "attention.output.dense", "intermediate.dense", "output.dense",
)  # fmt: skip


def build(arrays, config):
    """The tiny classifier with the recorded weights, its method attached; and the method's scale."""
    model = DebertaV2ForSequenceClassification(DebertaV2Config(**config["model_config"])).double()
    state = {key.removeprefix("weights/"): torch.tensor(arrays[key]) for key in arrays if key.startswith("weights/")}
    model.load_state_dict(state)
    model.requires_grad_(False)
    kind = config["variant"]
    if kind != "plain":
        settings = config["method"]
        if kind == "lora":
            method = create(LoRAConfig(rank=settings["rank"], alpha=settings["alpha"]))
        else:
            method = create(AdaLoRAConfig(init_rank=settings["rank"], target_rank=2, alpha=settings["alpha"]))
        paths = [f"deberta.encoder.layer.{i}.{path}" for i in range(2) for path in PER_LAYER]
        method.attach(model, {path: model.get_submodule(path) for path in paths}, total_steps=100)
        bypass_position_query(model)
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for key in arrays:
                if key.startswith("adapter/"):
                    _, path, name = key.split("/")
                    parameters[f"{path}.{name}"].copy_(torch.tensor(arrays[key]))
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
    model.pooler.requires_grad_(True)
    model.classifier.requires_grad_(True)
    return model.eval()


@pytest.mark.parametrize("variant", ["plain", "lora", "adalora"])
@pytest.mark.parametrize("attention", ["exact", "eager"])
def test_forward_and_gradients_are_the_authors(golden, variant, attention):
    arrays, config = golden(f"deberta_a_{variant}")
    model = build(arrays, config)
    if attention == "exact":
        use_exact_attention(model)
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
            name = key.removeprefix("grad/").removeprefix("adapter/").replace("/", ".")
            np.testing.assert_allclose(parameters[name].grad.numpy(), arrays[key], rtol=0, atol=1e-9, err_msg=name)
            compared += 1
    assert compared == sum(p.requires_grad for p in parameters.values())


def test_adapting_both_query_calls_gives_another_function(golden):
    arrays, config = golden("deberta_a_lora")
    released = build(arrays, config)
    both = build(arrays, config)
    for layer in both.deberta.encoder.layer:
        del layer.attention.self.disentangled_attention_bias  # back to the class's own
    inputs = {"input_ids": torch.tensor(arrays["input_ids"]), "attention_mask": torch.tensor(arrays["attention_mask"])}
    assert (released(**inputs).logits - both(**inputs).logits).abs().max() > 1e-6
