"""Tiny real models in fp64, and what a test's own training loop needs."""

import itertools

import torch
import transformers
from tokenizers import Tokenizer, models
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DebertaV2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

from adalora.backbones.load import target_modules
from adalora.config.schema import Training

INPUTS = {
    "input_ids": torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]]),
    "attention_mask": torch.tensor([[1] * 5, [1] * 4 + [0]]),
}
BATCHES = {
    "deberta": INPUTS | {"labels": torch.tensor([0, 1])},
    "bart": {"input_ids": torch.arange(4, 16).view(2, 6), "labels": torch.arange(20, 30).view(2, 5)},
}


def shapes_of(targets):
    """(d_out, d_in) of every target."""
    return {name: (module.out_features, module.in_features) for name, module in targets.items()}


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


def decoder(kind="llama", **options):
    """A random decoder of two layers with grouped-query attention, frozen: llama, olmo2, qwen2 or qwen3."""
    torch.manual_seed(0)
    names = {"llama": "Llama", "olmo2": "Olmo2", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    sizes = {
        "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
        "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip
    config = getattr(transformers, f"{names[kind]}Config")(**(sizes | options))
    return getattr(transformers, f"{names[kind]}ForCausalLM")(config).double().eval().requires_grad_(False)


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
