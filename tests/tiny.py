"""Tiny real models in fp64, and what a test's own training loop needs."""

import itertools

import torch
from tokenizers import Tokenizer, models
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DebertaV2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

from adalora.backbones.targets import target_modules
from adalora.config.schema import Training

INPUTS = {
    "input_ids": torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]]),
    "attention_mask": torch.tensor([[1] * 5, [1] * 4 + [0]]),
}


class Chain(nn.Module):
    """Linear layers with tanh between them, as in the golden trajectories; frozen."""

    def __init__(self, dims):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o, dtype=torch.float64) for i, o in itertools.pairwise(dims))
        self.requires_grad_(False)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)

    def targets(self):
        return {f"layers.{i}": layer for i, layer in enumerate(self.layers)}


def classifier(folder):
    """The model in `tiny_model`'s folder with a new head, frozen, without dropout."""
    torch.manual_seed(0)
    return DebertaV2ForSequenceClassification.from_pretrained(folder).double().eval().requires_grad_(False)


def bart(width=16, layers=2, **options):
    """A random BART of `layers` + `layers` layers with an FFN of twice its width, frozen, without dropout."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "d_model": width, "max_position_embeddings": 32}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_layers": layers, f"{part}_attention_heads": 2, f"{part}_ffn_dim": 2 * width}
    return BartForConditionalGeneration(BartConfig(**(sizes | options))).double().eval().requires_grad_(False)


def targets_of(model, config):
    """The modules of `model` that a composed configuration adapts, whatever the sizes of its backbone."""
    backbone = config.backbone
    backbone.path = "tiny"
    return target_modules(model, backbone)


def padding(pad_id):
    """A tokenizer whose padding has this id."""
    vocabulary = {f"word{i}": i for i in range(pad_id + 1)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="word0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=f"word{pad_id}")


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def wake(model):
    """Give every added tensor values, so that the increment is not zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trained(model):
            parameter.copy_(torch.randn_like(parameter) / 3)


def training(lr, warmup_steps=0, weight_decay=0.0, max_grad_norm=None):
    """Options of an optimizer, AdamW's others at their usual values."""
    return Training(
        epochs=1, max_steps=None, batch_size=1, micro_batches=1, eval_batch_size=1,
        activation_checkpointing=False, lr=lr, warmup_steps=warmup_steps,
        weight_decay=weight_decay, max_grad_norm=max_grad_norm, adam_beta1=0.9, adam_beta2=0.999, adam_eps=1e-8,
        eval_steps=1, log_steps=1, checkpoint_minutes=None, checkpoint_steps=1,
    )  # fmt: skip


def increment(module, x):
    """What an adapted module adds to W x + b."""
    return module(x) - module.base(x)
