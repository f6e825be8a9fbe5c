"""Every committed configuration composes, and finds the recipe that is meant for it."""

import math
from dataclasses import asdict
from itertools import product
from pathlib import Path

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from adalora.config import register
from adalora.config.methods import METHOD_CONFIGS
from adalora.config.mistakes import explained
from adalora.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("model", "task", "method", "budget", "recipe")
SQUAD = ("squad_v1", "squad_v2")
SUMMARIES = ("xsum", "cnn_dailymail")
GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")


def options(group):
    """What a user can choose: names with `_` are shared parts."""
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))


def shared(group):
    return sorted(path.stem for path in (CONF / group).glob("_*.yaml"))


OPTIONS = [(group, option) for group in GROUPS for option in options(group)]


def test_the_fixed_names_are_there():
    assert {*GLUE, *SQUAD, *SUMMARIES, "r8"} == set(options("task"))
    assert {"deberta_v3_base", "deberta_minilm", "bart_large", "bart_minilm"} == set(options("model"))
    assert {"adalora", "lora", "houlsby", "pfeiffer", "bitfit", "full", "increlora"} <= set(options("method"))
    assert {"0.3M", "0.6M", "1.2M", "0.08%", "0.16%", "0.32%", "0.65%", "custom"} <= set(options("budget"))
    assert {"0.13%", "0.26%", "1.10%", "2.20%"} <= set(options("budget"))
    assert options("recipe") == ["official_scripts", "paper"]


@pytest.mark.parametrize("group, option", OPTIONS)
def test_every_option_composes(compose, group, option):
    extra = ["budget.params=250_000"] if option == "custom" else []
    config = compose(f"{group}={option}", *extra)
    assert getattr(config, group).name == option
    if option == "custom":
        assert config.budget.params == 250_000


@pytest.mark.parametrize("group, option", [(group, option) for group in GROUPS for option in shared(group)])
def test_shared_parts_are_no_options(compose, group, option):
    with pytest.raises(UserError, match=rf"{group}\.\w+"):
        compose(f"{group}={option}")


def test_a_custom_budget_needs_its_number(compose):
    with pytest.raises(UserError, match=r"budget\.params=N"):
        compose("budget=custom")


MODELS = [model for model in options("model") if model.startswith("deberta")]
BARTS = [model for model in options("model") if model.startswith("bart")]
CELLS = [
    *product(MODELS, [*GLUE, *SQUAD, "r8"], options("method"), options("recipe")),
    *product(BARTS, SUMMARIES, options("method"), options("recipe")),
]
PAPERS = {*product(["deberta_v3_base"], [*GLUE, *SQUAD]), *product(["bart_large"], SUMMARIES)}


@pytest.mark.parametrize("model, task, method, recipe", CELLS)
def test_every_cell_composes_with_what_is_written_for_it(compose, model, task, method, recipe):
    config = compose(f"model={model}", f"task={task}", f"method={method}", f"recipe={recipe}")
    assert (config.model.name, config.task.name, config.method.name, config.recipe.name) == (
        model,
        task,
        method,
        recipe,
    )
    assert type(config.method) is METHOD_CONFIGS[method]
    protocol = CONF / "protocols" / model / f"{task}.yaml"
    source = CONF / "recipes" / recipe / model / task / f"{method}.yaml"
    assert (config.recipe.protocol is not None) == protocol.is_file()
    assert (config.recipe.source is not None) == source.is_file()
    if (model, task) in PAPERS:  # the paper's cells
        assert config.recipe.protocol
        assert config.recipe.source or method not in ("adalora", "lora")


@pytest.mark.parametrize("task, recipe", product(GLUE, options("recipe")))
def test_adalora_s_paper_cells_have_protocol_and_source(compose, task, recipe):
    config = compose("model=deberta_v3_base", f"task={task}", "method=adalora", f"recipe={recipe}")
    assert config.recipe.protocol
    assert config.recipe.source
    assert f"run_debertav3_{task}.sh" in config.recipe.source
    assert ("Table 8" in config.recipe.source) == (recipe == "paper")


def test_every_protocol_and_recipe_file_belongs_to_a_cell():
    for path in CONF.glob("protocols/**/*.yaml"):
        model, task = path.relative_to(CONF / "protocols").with_suffix("").parts
        assert model in options("model"), path
        assert task in options("task"), path
    for path in CONF.glob("recipes/**/*.yaml"):
        recipe, model, task, method, *budget = path.relative_to(CONF / "recipes").with_suffix("").parts
        assert all(part in options("budget") for part in budget), path  # a diff at one budget
        assert recipe in options("recipe"), path
        assert model in options("model"), path
        assert task in options("task"), path
        assert method in options("method"), path


def protocol_training(path):
    """A protocol's `training` node, with that of the protocol that it starts from."""
    node = OmegaConf.load(path)
    training = {}
    for entry in node.get("defaults", []):
        if entry != "_self_":
            training |= protocol_training(CONF / f"{str(entry).removesuffix('@_here_').lstrip('/')}.yaml")
    return training | dict(node.get("training", {}))


PROTOCOLS = sorted((path.parent.name, path.stem) for path in CONF.glob("protocols/*/*.yaml"))


@pytest.mark.parametrize("model, task", PROTOCOLS)
def test_a_protocol_sets_its_lengths_together(compose, model, task):
    path = CONF / "protocols" / model / f"{task}.yaml"
    lengths = {"planned_steps", "warmup_steps", "eval_steps", "epochs"}
    own = set(OmegaConf.load(path).get("training", {})) & lengths
    assert own in (set(), lengths)  # a diff over another protocol has all or none of its own
    training = protocol_training(path)
    assert lengths <= set(training)
    composed = compose(f"model={model}", f"task={task}", "method=adalora", "recipe=paper").training
    assert {key: getattr(composed, key) for key in training} == training


@pytest.mark.parametrize("model, task", PROTOCOLS)
def test_planned_steps_are_the_epochs_of_the_official_rows(compose, model, task):
    config = compose(f"model={model}", f"task={task}", "method=adalora", "recipe=paper")
    training, rows = config.training, config.task.rows[config.task.train_split]
    expected = -(-rows // training.batch_size) * training.epochs
    windows = 0.015 if task in SQUAD else 0  # a question has one or more, by the tokenizer
    assert 0 <= training.planned_steps / expected - 1 <= windows


@pytest.mark.parametrize("recipe", options("recipe"))
def test_the_command_line_wins(compose, recipe):
    plain = compose("task=cola", f"recipe={recipe}")
    wanted = {
        "training.lr": 7e-5,
        "training.epochs": 3.0,
        "training.warmup_steps": 17,
        "training.weight_decay": 0.25,
        "method.alpha": 5.0,
        "method.orthogonality": 0.7,
        "method.initial_steps": 11,
        "model.classifier_dropout": 0.45,
        "model.pos_query_base_only": False,
        "precision": "bf16",
    }
    config = compose(f"recipe={recipe}", *(f"{key}={value}" for key, value in wanted.items()), "task=cola")
    for key, value in wanted.items():
        node, before = config, plain
        for part in key.split("."):
            node, before = getattr(node, part), getattr(before, part)
        assert node == value, key
        assert before != value, key  # the recipe or the defaults say something else
    assert config.recipe.source == plain.recipe.source


def test_the_command_line_wins_over_the_demo_s_precision(compose):
    assert compose("model=deberta_minilm", "task=r8").precision == "bf16"
    assert compose("model=deberta_minilm", "task=r8", "precision=fp32").precision == "fp32"


def test_every_method_has_options_and_a_dataclass():
    assert options("method") == sorted(METHOD_CONFIGS)


@pytest.mark.parametrize("method", options("method"))
def test_yaml_and_dataclass_have_the_same_defaults(method):
    node = OmegaConf.to_container(OmegaConf.load(CONF / "method" / f"{method}.yaml").method)
    assert node == asdict(METHOD_CONFIGS[method]())
    assert node["name"] == method


ON_BART = ("0.13%", "0.26%", "1.10%", "2.20%")
OWN_REGIME = ("7K", "37K")  # of LoRTA and LoRA-Mini, below any LoRA


@pytest.mark.parametrize("budget", ON_BART)
def test_budgets_on_bart_are_their_rank(budget):
    node = OmegaConf.load(CONF / "budget" / f"{budget}.yaml")
    settings = node.settings.bart_large
    assert node.params is None
    assert node.rank == settings.lora.rank == settings.adalora.target_rank
    # Section 4.1; at 0.26% the released CNN/DailyMail script (D-init-rank)
    assert settings.adalora.init_rank == (4 if node.rank == 2 else math.ceil(1.5 * node.rank))


@pytest.mark.parametrize(
    "budget", [option for option in options("budget") if option not in ("custom", *ON_BART, *OWN_REGIME)]
)
def test_named_budgets_are_lora_s_exact_count(budget):
    node = OmegaConf.load(CONF / "budget" / f"{budget}.yaml")
    if "bart_large" in node.settings:
        return  # tests/test_budget.py
    # DeBERTaV3-base: 12 layers of four 768 x 768 maps and two between 768 and 3072
    a_rank = 12 * (4 * (768 + 768) + 2 * (768 + 3072))
    assert node.params == node.settings.deberta_v3_base.lora.rank * a_rank
    assert node.settings.deberta_v3_base.adalora.target_rank == node.settings.deberta_v3_base.lora.rank
    assert node.settings.deberta_v3_base.houlsby.width == 4 * node.settings.deberta_v3_base.lora.rank
    if node.settings.deberta_v3_base.lora.rank > 1:  # at 1 there is nothing to grow
        assert node.settings.deberta_v3_base.increlora == {"target_rank": node.settings.deberta_v3_base.lora.rank}
    assert node.settings.deberta_v3_base.pfeiffer.width == 8 * node.settings.deberta_v3_base.lora.rank
    family = node.settings.deberta_v3_base
    assert family.mora.rank == family.melora.rank == family.lora.rank
    assert 72 * family.lora_mini.rank * (family.lora_mini.inner_in + family.lora_mini.inner_out) == node.params
    # q, k, v, o of 12 layers: 768 rows, heads of 64, 12 heads, 12 layers, 4 matrices
    assert abs(family.lorta.rank * (768 + 64 + 12 + 12 + 4) - node.params) <= 430


def test_workers_without_their_launcher_say_how_to_install_it(monkeypatch):
    register()
    Plugins.instance()
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "joblib.yaml")
    with (
        hydra.initialize_config_dir(str(CONF), version_base="1.3"),
        pytest.raises(MissingConfigException) as caught,
    ):
        hydra.compose("config", overrides=["hydra/launcher=workers"], return_hydra_config=True)
    assert explained(caught.value) == (
        "hydra/launcher=workers needs hydra-joblib-launcher: install it with pip install -e '.[launchers]'"
    )
