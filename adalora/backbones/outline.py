"""A backbone as shapes, from its architecture's numbers alone.

A plan needs the shape of every parameter, but not the model: building one imports torch and transformers, which takes
seconds. tests/backbones/test_outline.py compares with the models that transformers builds.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from adalora.backbones.files import REMEDY, read_values
from adalora.backbones.options import DECODERS, Model
from adalora.files.reading import library_reads
from adalora.module_paths import target_paths

DEFAULTS: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "position_biased_input": True, "type_vocab_size": 0, "relative_attention": False, "max_relative_positions": -1,
        "position_buckets": -1, "share_att_key": False, "pos_att_type": None, "norm_rel_ebd": "none",
        "conv_kernel_size": 0, "conv_groups": 1,
    },
    "bart": {"tie_word_embeddings": True},
    "llama": {"attention_bias": False, "mlp_bias": False},
    "olmo2": {"attention_bias": False},
    "qwen2": {},
    "qwen3": {"attention_bias": False, "head_dim": 128},
}  # fmt: skip
"""What transformers takes for numbers that config.json leaves out, where they matter here."""


@dataclass
class Outline:
    """A backbone with its task's head: sizes, and shapes of parameters and modules by path."""

    base: str  # path of the model without head and output layer
    hidden_size: int
    num_hidden_layers: int  # of an encoder-decoder: the encoder's
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    query_width: int  # entries of a token's queries in a layer
    key_width: int  # entries of its keys
    positions: int | None  # tokens that fit; None: any number
    decoder_layers: int = 0  # of an encoder-decoder
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)  # further name of a parameter -> its name in `parameters`
    linear: dict[str, tuple[int, int]] = field(default_factory=dict)  # linear layers: (d_out, d_in)

    def add_linear(self, path: str, d_out: int, d_in: int, bias: bool = True) -> None:
        """Add a linear layer."""
        self.linear[path] = (d_out, d_in)
        self.parameters[f"{path}.weight"] = (d_out, d_in)
        if bias:
            self.parameters[f"{path}.bias"] = (d_out,)

    def add_norm(self, path: str, size: int, bias: bool = True) -> None:
        """Add a LayerNorm, or without `bias` an RMSNorm."""
        self.parameters[f"{path}.weight"] = (size,)
        if bias:
            self.parameters[f"{path}.bias"] = (size,)

    def add_embedding(self, path: str, rows: int, size: int) -> None:
        """Add an embedding."""
        self.parameters[f"{path}.weight"] = (rows, size)

    @property
    def total(self) -> int:
        """Number of parameters."""
        return sum(map(math.prod, self.parameters.values()))

    def within(self, modules: Iterable[str]) -> dict[str, str]:
        """The parameters of some modules: each name, and its name in `parameters`."""
        starts = tuple(f"{name}." for name in modules)
        return {name: self.tied.get(name, name) for name in (*self.parameters, *self.tied) if name.startswith(starts)}

    def size(self, modules: Iterable[str]) -> int:
        """Number of parameters in some modules; what they share counts once."""
        return sum(math.prod(self.parameters[name]) for name in set(self.within(modules).values()))

    def modules(self) -> list[str]:
        """The paths of all modules that have parameters."""
        found: dict[str, None] = {}
        for name in (*self.parameters, *self.tied):
            parts = name.split(".")[:-1]
            found |= dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts) + 1))
        return list(found)

    def linear_weights(self, pattern: str = "") -> int:
        """Number of weights in the linear layers, or in those whose path matches the pattern from its start."""
        return sum(d_out * d_in for path, (d_out, d_in) in self.linear.items() if re.match(pattern, path))

    def targets(self, model: Model) -> dict[str, tuple[int, int]]:
        """(d_out, d_in) of the modules named in `model.targets`. Raises `UserError` as `target_paths` does."""
        paths = target_paths(model.targets, model.title, self.modules(), self.linear)
        return {path: self.linear[path] for path in paths}


def outline_of(model: Model, num_labels: int, folder: Path | None = None) -> Outline:
    """The outline of a backbone with its head.

    Args:
        model: the backbone.
        num_labels: outputs of the head.
        folder: where its config.json is; None: the numbers are those of `conf/model`.

    Raises:
        UserError: config.json is missing or damaged, or the numbers contradict each other.
    """
    values, defaults = dict(model.config), DEFAULTS[model.model_type]
    if folder is None or model.grafted:
        values = defaults | values
    else:
        values |= defaults | read_values([model.model_type], model.title, folder)
    number = SimpleNamespace(**values)
    with library_reads((folder or Path()) / "config.json", REMEDY):
        if model.model_type in DECODERS:
            built = decoder(number, model.model_type)
        else:
            built = {"deberta-v2": deberta, "bart": bart}[model.model_type](number)
        (head,) = [head for suffix, head in HEADS.items() if model.architecture.endswith(suffix)]
        head(built, number, num_labels)
    return built


def heads_divide(size: int, heads: int, name: str) -> None:
    """Reject a width that isn't a multiple of the number of heads. Raises `ValueError`."""
    if size % heads:
        raise ValueError(f"{name}={size} isn't a multiple of the {heads} attention heads")


def deberta(number: Any) -> Outline:
    """DeBERTa-v2 and v3."""
    d, heads = number.hidden_size, number.num_attention_heads
    heads_divide(d, heads, "hidden_size")
    width = heads * getattr(number, "attention_head_size", d // heads)
    positions = number.max_position_embeddings if number.position_biased_input else None
    out = Outline(
        base="deberta", hidden_size=d, num_hidden_layers=number.num_hidden_layers, num_attention_heads=heads,
        intermediate_size=number.intermediate_size, vocab_size=number.vocab_size, query_width=width, key_width=width,
        positions=positions,
    )  # fmt: skip
    embedded = getattr(number, "embedding_size", d)
    out.add_embedding("deberta.embeddings.word_embeddings", number.vocab_size, embedded)
    if positions is not None:
        out.add_embedding("deberta.embeddings.position_embeddings", positions, embedded)
    if number.type_vocab_size > 0:
        out.add_embedding("deberta.embeddings.token_type_embeddings", number.type_vocab_size, embedded)
    if embedded != d:
        out.add_linear("deberta.embeddings.embed_proj", d, embedded, bias=False)
    out.add_norm("deberta.embeddings.LayerNorm", d)
    own_projections = number.relative_attention and not number.share_att_key
    for layer in range(number.num_hidden_layers):
        at = f"deberta.encoder.layer.{layer}"
        for name in ("query_proj", "key_proj", "value_proj"):
            out.add_linear(f"{at}.attention.self.{name}", width, d)
        for name, kind in {"pos_key_proj": "c2p", "pos_query_proj": "p2c"}.items():
            if own_projections and kind in (number.pos_att_type or ()):
                out.add_linear(f"{at}.attention.self.{name}", width, d)
        out.add_linear(f"{at}.attention.output.dense", d, d)
        out.add_norm(f"{at}.attention.output.LayerNorm", d)
        out.add_linear(f"{at}.intermediate.dense", number.intermediate_size, d)
        out.add_linear(f"{at}.output.dense", d, number.intermediate_size)
        out.add_norm(f"{at}.output.LayerNorm", d)
    if number.relative_attention:
        spans = number.position_buckets, number.max_relative_positions, number.max_position_embeddings
        out.add_embedding("deberta.encoder.rel_embeddings", 2 * next(span for span in spans if span > 0), d)
    if "layer_norm" in number.norm_rel_ebd.lower():
        out.add_norm("deberta.encoder.LayerNorm", d)
    if number.conv_kernel_size > 0:
        shape = (d, d // number.conv_groups, number.conv_kernel_size)
        out.parameters |= {"deberta.encoder.conv.conv.weight": shape, "deberta.encoder.conv.conv.bias": (d,)}
        out.add_norm("deberta.encoder.conv.LayerNorm", d)
    return out


def bart(number: Any) -> Outline:
    """BART, whose output layer and three embeddings are one matrix if they are tied."""
    d, heads = number.d_model, number.encoder_attention_heads
    for side in ("encoder", "decoder"):
        heads_divide(d, getattr(number, f"{side}_attention_heads"), "d_model")
    out = Outline(
        base="model", hidden_size=d, num_hidden_layers=number.encoder_layers, num_attention_heads=heads,
        intermediate_size=number.encoder_ffn_dim, vocab_size=number.vocab_size, query_width=d, key_width=d,
        positions=number.max_position_embeddings, decoder_layers=number.decoder_layers,
    )  # fmt: skip
    out.add_embedding("model.shared", number.vocab_size, d)
    for side in ("encoder", "decoder"):
        same_weight(out, f"model.{side}.embed_tokens", "model.shared", number.tie_word_embeddings)
        out.add_embedding(f"model.{side}.embed_positions", number.max_position_embeddings + 2, d)
        out.add_norm(f"model.{side}.layernorm_embedding", d)
        ffn = getattr(number, f"{side}_ffn_dim")
        for layer in range(getattr(number, f"{side}_layers")):
            at = f"model.{side}.layers.{layer}"
            for attention in ("self_attn", "encoder_attn")[: 1 if side == "encoder" else 2]:
                for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
                    out.add_linear(f"{at}.{attention}.{name}", d, d)
                out.add_norm(f"{at}.{attention}_layer_norm", d)
            out.add_linear(f"{at}.fc1", ffn, d)
            out.add_linear(f"{at}.fc2", d, ffn)
            out.add_norm(f"{at}.final_layer_norm", d)
    return out


def decoder(number: Any, kind: str) -> Outline:
    """Llama, OLMo-2, Qwen2 and Qwen3."""
    d, ffn, heads, keys = (
        number.hidden_size, number.intermediate_size, number.num_attention_heads,
        number.num_key_value_heads or number.num_attention_heads,
    )  # fmt: skip
    size = getattr(number, "head_dim", None)
    if size is None:
        heads_divide(d, heads, "hidden_size")
        size = d // heads
    out = Outline(
        base="model", hidden_size=d, num_hidden_layers=number.num_hidden_layers, num_attention_heads=heads,
        intermediate_size=ffn, vocab_size=number.vocab_size, query_width=heads * size, key_width=keys * size,
        positions=number.max_position_embeddings,
    )  # fmt: skip
    out.add_embedding("model.embed_tokens", number.vocab_size, d)
    output_bias = kind != "qwen2" and number.attention_bias
    first = "post_feedforward_layernorm" if kind == "olmo2" else "input_layernorm"
    for layer in range(number.num_hidden_layers):
        at = f"model.layers.{layer}"
        for name, width in {"q": heads, "k": keys, "v": keys}.items():
            out.add_linear(f"{at}.self_attn.{name}_proj", width * size, d, output_bias or kind == "qwen2")
            if name != "v" and kind in ("olmo2", "qwen3"):  # OLMo-2 normalises all heads together
                out.add_norm(f"{at}.self_attn.{name}_norm", size * (width if kind == "olmo2" else 1), bias=False)
        out.add_linear(f"{at}.self_attn.o_proj", d, heads * size, output_bias)
        mlp_bias = kind == "llama" and number.mlp_bias
        for name in ("gate", "up"):
            out.add_linear(f"{at}.mlp.{name}_proj", ffn, d, mlp_bias)
        out.add_linear(f"{at}.mlp.down_proj", d, ffn, mlp_bias)
        for name in (first, "post_attention_layernorm"):
            out.add_norm(f"{at}.{name}", d, bias=False)
    out.add_norm("model.norm", d, bias=False)
    return out


def same_weight(out: Outline, path: str, other: str, tied: bool) -> None:
    """Add an embedding or an output layer with the weight of another module, or one of its own shape."""
    if tied:
        out.tied[f"{path}.weight"] = f"{other}.weight"
    else:
        out.parameters[f"{path}.weight"] = out.parameters[f"{other}.weight"]


def classifier(out: Outline, number: Any, num_labels: int) -> None:
    """The pooler and the classifier after DeBERTa."""
    pooled = getattr(number, "pooler_hidden_size", number.hidden_size)
    out.add_linear("pooler.dense", pooled, pooled)
    out.add_linear("classifier", num_labels, pooled)


def answer(out: Outline, number: Any, num_labels: int) -> None:
    """Start and end of an answer after DeBERTa."""
    out.add_linear("qa_outputs", num_labels, number.hidden_size)


def words(out: Outline, number: Any, num_labels: int) -> None:
    """A language model's output layer."""
    tokens = "model.shared" if out.decoder_layers else "model.embed_tokens"
    out.linear["lm_head"] = (out.vocab_size, out.hidden_size)
    same_weight(out, "lm_head", tokens, number.tie_word_embeddings)


HEADS: dict[str, Callable[[Outline, Any, int], None]] = {
    "ForSequenceClassification": classifier,
    "ForQuestionAnswering": answer,
    "ForConditionalGeneration": words,
    "ForCausalLM": words,
}
"""What follows the backbone, by the end of the name of transformers' class."""
