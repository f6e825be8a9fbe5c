"""The architecture decides which backbone a configuration is about, not where its files are."""

import json

import pytest

from adalora.config.backbone import source_name
from adalora.errors import UserError
from adalora.planning.plan import make_plan

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


@pytest.mark.parametrize("method", ["adalora", "lora", "houlsby", "bitfit"])
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
        (["model=deberta"], "of type deberta-v2 is needed: give model.path=FOLDER or model.hub=ID"),
        (["model=deberta", "model.path=/nowhere"], "model.path=/nowhere: no such folder"),
        (["model=bart", "task=xsum", "model.path={folder}"], "has model_type deberta-v2, bart needs bart"),
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
