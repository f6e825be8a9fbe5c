"""The architecture decides which backbone a configuration is about, not where its files are."""

import json

import pytest

from adalora.backbones.load import architecture
from adalora.backbones.outline import outline_of
from adalora.config.backbone import source_name
from adalora.errors import UserError
from adalora.planning.plan import make_plan
from adalora.sources import hub

BASE = {  # microsoft/deberta-v3-base's config.json
    "model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 512,
    "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1, "position_biased_input": False,
    "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 0, "vocab_size": 128100,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """`folder(num_hidden_layers=6)`: a folder with such a config.json."""

    def write(name="model", **changes):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.json").write_text(json.dumps(BASE | changes))
        return tmp_path / name

    return write


@pytest.mark.parametrize("method", ["adalora", "houlsby"])
def test_the_named_architecture_in_a_folder_is_the_named_model(compose, folder, method):
    options = ("task=rte", "budget=0.3M", f"method={method}")
    here, there = compose(*options), compose(*options, f"model.path={folder()}")
    assert there.model.name == "deberta_v3_base"
    assert there.model.comparable
    first, second = make_plan(here, here.task.rows), make_plan(there, there.task.rows)
    assert (second.solution, second.cost, second.config.recipe) == (first.solution, first.cost, first.config.recipe)
    assert second.config.training == first.config.training


@pytest.mark.parametrize("change", [{"num_hidden_layers": 6}, {"vocab_size": 99}, {"share_att_key": False}])
def test_another_architecture_has_neither_name_nor_recipe_nor_sizes(compose, folder, change):
    config = compose("task=rte", "seed=3", "budget=0.3M", "training.epochs=2", f"model.path={folder('mine', **change)}")
    assert config.model.name == "mine"
    assert config.model.title == "mine (deberta-v2)"
    assert not config.model.comparable
    assert config.recipe.values == {}
    assert config.budget.settings.get("mine") is None
    assert (config.seed, config.training.epochs) == (3, 2)
    assert config.method.orthogonality != 0.3  # RTE's published value
    assert {key: config.model.config[key] for key in change} == change


def test_a_generic_model_takes_its_architecture_from_its_files(compose, folder):
    config = compose("task=rte", "model=deberta", f"model.path={folder('small', num_hidden_layers=3)}")
    assert (config.model.name, config.model.config["num_hidden_layers"]) == ("small", 3)
    named = compose("task=rte", "model=deberta", "model.name=own", f"model.path={folder('other', hidden_size=60)}")
    assert named.model.name == "own"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model=deberta"], "model=deberta is any deberta-v2: give model.path=FOLDER or model.hub=ID"),
        (["model=deberta", "model.path=/nowhere"], "model.path=/nowhere: no such folder"),
        (["model=bart", "task=xsum", "model.path={folder}"], "has model_type deberta-v2, model=bart needs bart"),
    ],
)
def test_a_generic_model_needs_files_of_its_type(compose, folder, options, message):
    with pytest.raises(UserError, match=message):
        compose(*(option.replace("{folder}", str(folder())) for option in options))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("emu/deberta-tiny", "deberta-tiny"),
        ("/x/my model (2)/", "my-model--2-"),
        ("/hf/hub/models--emu--deberta-tiny/snapshots/0123456789abcdef", "deberta-tiny"),
        ("/x/deberta_v3_base", "other-deberta_v3_base"),
        ("/x/...", "model"),
    ],
)
def test_a_name_for_paths_and_tables(source, name):
    assert source_name(source) == name


LLAMA = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "max_position_embeddings": 131072, "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3", "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip  # meta-llama/Llama-3.2-1B's config.json


def decoder_folder(tmp_path, **changes):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(LLAMA | changes))
    return f"model.path={tmp_path / 'mine'}"


def test_a_named_decoder_in_a_folder_is_the_named_one(compose, tmp_path):
    config = compose("model=llama32_1b", decoder_folder(tmp_path))
    assert (config.model.name, config.model.title) == ("llama32_1b", "Llama-3.2-1B")
    assert config.model.config == compose("model=llama32_1b").model.config


@pytest.mark.parametrize(
    "change", [{"num_key_value_heads": 4}, {"tie_word_embeddings": False}, {"model_type": "qwen3"}]
)
def test_another_decoder_is_named_for_what_it_is(compose, tmp_path, change):
    config = compose("model=llama32_1b", decoder_folder(tmp_path, **change))
    kind = change.get("model_type", "llama")
    assert (config.model.name, config.model.title, config.model.model_type) == ("mine", f"mine ({kind})", kind)
    assert config.backbone.architecture == {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[kind]


def test_a_decoder_of_another_repository_is_another_model(compose, tmp_path, monkeypatch):
    """Base and instruction-tuned models have one architecture."""
    decoder_folder(tmp_path)
    monkeypatch.setattr(hub, "fetch", lambda *args: tmp_path / "mine")
    config = compose("model=llama32_1b", "model.hub=someone/tuned-1B")
    assert (config.model.name, config.model.title) == ("tuned-1B", "tuned-1B (llama)")


def test_a_repository_instead_of_a_package_is_another_model(compose, tmp_path, monkeypatch):
    decoder_folder(tmp_path)
    monkeypatch.setattr(hub, "fetch", lambda *args: tmp_path / "mine")
    model = compose("model=smollm2", "model.hub=someone/tuned-1B").model
    assert (model.name, model.title, model.package) == ("tuned-1B", "tuned-1B (llama)", None)


@pytest.mark.parametrize("kind", ["gpt2", "deberta-v2"])
def test_a_decoder_of_an_unknown_architecture_is_refused(compose, tmp_path, kind):
    with pytest.raises(UserError, match="llama or olmo2 or qwen2 or qwen3"):
        compose("model=decoder", "task=igbo", decoder_folder(tmp_path, model_type=kind))


PARAMETERS = {  # as their model cards and safetensors state
    "smollm2": 134_515_008, "olmo2_1b": 1_484_916_736, "olmo2_7b": 7_298_617_344, "llama32_1b": 1_235_814_400,
    "llama32_3b": 3_212_749_824, "qwen3_0_6b": 596_049_920,
}  # fmt: skip


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_a_named_decoder_s_numbers_give_its_parameters(compose, name, count):
    assert outline_of(compose(f"model={name}").backbone, 0).total == count


def test_weights_in_bf16_need_precision_bf16(compose):
    with pytest.raises(UserError, match="set precision=bf16"):
        compose("model=smollm2", "model.dtype=bf16")
    with pytest.raises(UserError, match=r"model\.dtype=bf16 is for decoders"):
        compose("task=rte", "model.dtype=bf16", "precision=bf16")
    assert compose("model=smollm2", "model.dtype=bf16", "precision=bf16").model.dtype == "bf16"


def test_another_task_s_labels_in_a_folder_print_nothing(compose, folder, caplog):
    """A fine-tuned classifier's config.json may have labels that don't fit `num_labels`."""
    labels = {"num_labels": 2, "id2label": {str(i): "abc"[i] for i in range(3)}, "label2id": {"a": 0, "b": 1, "c": 2}}
    there = folder("tuned", num_hidden_layers=2, **labels)
    with caplog.at_level("WARNING", "transformers"):
        config = compose("task=rte", f"model.path={there}")
        assert architecture(config.backbone, 4, there).num_labels == 4
    assert caplog.messages == []
