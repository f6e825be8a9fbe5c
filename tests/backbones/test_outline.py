"""An outline has the shapes of the model that transformers builds from the same numbers."""

import json
from dataclasses import replace

import pytest
from torch import nn

from adalora.backbones.load import target_modules
from adalora.backbones.options import DECODERS, GENERIC
from adalora.backbones.outline import DEFAULTS, outline_of
from adalora.errors import UserError
from adalora.paths import CONF
from tests.blank import blank

NAMED = [path.stem for path in sorted((CONF / "model").glob("[a-z]*.yaml")) if "???" not in path.read_text()]
TASKS = {"deberta-v2": ("rte", "stsb", "squad_v1"), "bart": ("xsum",)} | dict.fromkeys(DECODERS, ("igbo",))
SMALL = {
    "deberta-v2": {
        "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
        "max_position_embeddings": 32,
    },
    "bart": {
        "vocab_size": 50, "d_model": 16, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 32, "max_position_embeddings": 32,
    },
    "decoder": {
        "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 32,
    },
}  # fmt: skip
ODD = [
    ("deberta-v2", {}),
    ("deberta-v2", {"relative_attention": True}),
    ("deberta-v2", {"relative_attention": True, "max_relative_positions": 7, "pos_att_type": "p2c|c2p"}),
    ("deberta-v2", {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["c2p"]}),
    ("deberta-v2", {"relative_attention": True, "share_att_key": True, "pos_att_type": ["p2c", "c2p"]}),
    ("deberta-v2", {"position_biased_input": False, "type_vocab_size": 2, "norm_rel_ebd": "layer_norm"}),
    ("deberta-v2", {"conv_kernel_size": 3, "conv_groups": 2, "conv_act": "gelu", "attention_head_size": 4}),
    ("deberta-v2", {"embedding_size": 8, "pooler_hidden_size": 16}),
    ("bart", {}),
    ("bart", {"tie_word_embeddings": False}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 6, "tie_word_embeddings": False}),
    ("llama", {"num_key_value_heads": None, "tie_word_embeddings": True}),
    ("olmo2", {"attention_bias": True, "num_key_value_heads": None}),
    ("qwen2", {"head_dim": 8}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen3", {"head_dim": 8, "attention_bias": True}),
    ("qwen3", {}),
]


def same(backbone, outputs, folder=None):
    """Compare an outline with the model, and return both."""
    built = blank(backbone, outputs, folder)
    found = outline_of(backbone, outputs, folder)
    config = built.config
    assert {name: tuple(p.shape) for name, p in built.named_parameters()} == found.parameters
    every = {name: id(p) for name, p in built.named_parameters(remove_duplicate=False)}
    assert {name: every[first] for name, first in found.within(found.modules()).items()} == every
    linear = {path: (m.out_features, m.in_features) for path, m in built.named_modules() if isinstance(m, nn.Linear)}
    assert linear == found.linear
    inside = sum(m.weight.numel() for m in built.base_model.modules() if isinstance(m, nn.Linear))
    assert inside == found.linear_weights(f"{found.base}.")
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        assert getattr(config, name) == getattr(found, name), name
    shapes = {path: (m.out_features, m.in_features) for path, m in target_modules(built, backbone).items()}
    assert shapes == found.targets(backbone)
    assert list(shapes) == list(found.targets(backbone))
    keys = next(shape for path, shape in linear.items() if path.rpartition(".")[2] in ("k_proj", "key_proj"))
    queries = next(shape for path, shape in linear.items() if path.rpartition(".")[2] in ("q_proj", "query_proj"))
    assert (keys[0], queries[0]) == (found.key_width, found.query_width)
    return built, found


@pytest.mark.parametrize("name", NAMED)
def test_every_named_backbone_with_every_head(compose, name):
    for task in TASKS[compose(f"model={name}").model.model_type]:
        config = compose(f"model={name}", f"task={task}")
        assert config.model.name == name
        same(config.backbone, config.task.outputs)


@pytest.mark.parametrize(("kind", "numbers"), ODD)
def test_a_folder_s_own_numbers(compose, tmp_path, kind, numbers):
    """config.json decides, and transformers' defaults for what it leaves out."""
    values = {"model_type": kind} | SMALL.get(kind, SMALL["decoder"]) | numbers
    (tmp_path / "config.json").write_text(json.dumps(values))
    for task in TASKS[kind]:
        config = compose(f"model={GENERIC[kind]}", f"task={task}", f"model.path={tmp_path}")
        same(config.backbone, config.task.outputs, tmp_path)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_numbers_that_contradict_each_other(compose, kind):
    heads = "decoder_attention_heads" if kind == "bart" else "num_attention_heads"
    named = {"deberta": "deberta_v3_base", "bart": "bart_large", "decoder": "olmo2_1b"}[GENERIC[kind]]
    model = replace(compose(f"model={named}").backbone, model_type=kind)
    model.config |= {heads: 5, "head_dim": None}
    with pytest.raises(UserError, match=r"config.json .*=\d+ isn't a multiple of the 5 attention heads"):
        outline_of(model, 2)
