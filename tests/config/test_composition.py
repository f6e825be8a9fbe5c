"""Every committed configuration composes and finds its recipe."""

import re
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from adalora.config import recipes as tables
from adalora.config import register
from adalora.config.mistakes import explain
from adalora.config.recipes import aliases, protocols, recipes
from adalora.errors import UserError
from adalora.methods.discovery import METHODS
from adalora.planning.plan import make_plan

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("model", "task", "method", "budget", "recipe")
SQUAD = ("squad_v1", "squad_v2")
SUMMARIES = ("xsum", "cnn_dailymail")
QUESTIONS = ("arc_easy", "arc_challenge", "openbookqa", "choices", "answers", "gsm8k", "metamath")
GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")


def options(group):
    """What a user can choose: names with `_` are shared parts."""
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))


def shared(group):
    return sorted(path.stem for path in (CONF / group).glob("_*.yaml"))


DECODERS = ("smollm2", "olmo2_1b", "olmo2_7b", "llama32_1b", "llama32_3b", "qwen3_0_6b")
GENERIC = ("deberta", "bart", "decoder")  # any model of these types: tests/config/test_backbone.py
OPTIONS = [(group, option) for group in ("task", "budget") for option in options(group)]  # others: where they are used


def test_the_fixed_names_are_there():
    assert {*GLUE, *SQUAD, *SUMMARIES, "r8", "r8_text", "igbo", "text", *QUESTIONS} == set(options("task"))
    encoders = {"deberta_v3_base", "deberta_minilm", "bart_large", "bart_minilm"}
    assert {*encoders, *DECODERS, *GENERIC} == set(options("model"))
    assert {"0.3M", "0.6M", "1.2M", "0.08%", "0.16%", "0.32%", "0.65%", "custom"} <= set(options("budget"))
    assert {"0.13%", "0.26%", "1.10%", "2.20%"} <= set(options("budget"))
    assert options("recipe") == ["official_scripts", "paper", "peft_comparison", "pocket", "ssu"]


@pytest.mark.parametrize("group, option", OPTIONS)
def test_every_option_composes(compose, group, option):
    extra = ["budget.params=250_000"] if option == "custom" else []
    config = compose(f"{group}={option}", *extra)
    assert getattr(config, group).name == aliases().get(option, option)
    if option == "custom":
        assert config.budget.params == 250_000
    if option in aliases():
        assert config.budget == compose(f"budget={aliases()[option]}").budget


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("0.16%", "0.3M"),
        *(pytest.param(*both, marks=pytest.mark.slow) for both in (("0.32%", "0.6M"), ("0.65%", "1.2M"))),
    ],
)
@pytest.mark.parametrize(
    "line", ["task=rte", "task=squad_v2 method=increlora", "task=cola method=increlora", "experiment=svd_lora"]
)
def test_a_size_is_the_same_however_it_is_spelt(compose, line, alias, name):
    """A recipe's values for a budget hold for its aliases, too."""
    assert compose(*line.split(), f"budget={alias}") == compose(*line.split(), f"budget={name}")


def test_an_experiment_may_use_an_alias(compose, tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\ndefaults:\n  - override /budget: 0.65%\n")
    line = ("task=cola", "method=increlora")
    mine = compose(f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine", *line)
    assert mine == compose("budget=1.2M", *line)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes_as_the_command_in_its_heading(compose, experiment):
    heading = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    (command,) = re.findall(r"^#   python train\.py (.*)$", heading, re.M)
    assert f"experiment={experiment}" in command
    chosen = [f"{key}={value.split(',')[0]}" for key, value in re.findall(r"([\w.]+)=(\S+)", command)]
    config = compose(*chosen)
    make_plan(config, config.task.rows)


@pytest.mark.slow
@pytest.mark.parametrize("method", options("method"))
def test_the_tiny_experiment_fits_every_method(compose, method):
    config = compose("experiment=tiny", "model=deberta_minilm", "task=rte", f"method={method}")
    plan = make_plan(config, config.task.rows)
    assert plan.total_steps == 10
    assert (plan.config.tracking, plan.config.run_root) == ("none", "results/debug")


def test_experiments_go_together_and_win_over_the_recipe(compose):
    config = compose("experiment=[svd_lora,tiny]", "task=sst2", "recipe=official_scripts")
    assert (config.method.init_rank, config.training.max_steps) == (2, 10)
    assert config.recipe.source == "QingruZhang/AdaLoRA NLU/scripts/run_debertav3_sst2.sh"


def test_what_a_user_keeps_in_local_wins_over_the_recipe_and_the_command_line_over_it(compose_with, tmp_path):
    (tmp_path / "local").mkdir()
    mine = "# @package _global_\ndata_root: /mine\ntraining:\n  lr: 1e-5\n  weight_decay: 0.5\n"
    (tmp_path / "local" / "default.yaml").write_text(mine)
    config = compose_with(tmp_path, "task=rte", "training.weight_decay=0.25")
    assert (config.data_root, config.training.lr, config.training.weight_decay) == ("/mine", 1e-5, 0.25)


@pytest.mark.parametrize("group, option", [(group, option) for group in GROUPS for option in shared(group)])
def test_shared_parts_are_no_options(compose, group, option):
    with pytest.raises(UserError, match=rf"{group}\.\w+"):
        compose(f"{group}={option}")


PAPERS = [*product(["deberta_v3_base"], [*GLUE, *SQUAD]), *product(["bart_large"], SUMMARIES)]


@pytest.mark.slow
@pytest.mark.parametrize("model, task", PAPERS)
def test_the_paper_s_cells_have_protocol_and_source(compose, model, task):
    for method in ("adalora", "lora"):
        config = compose(f"model={model}", f"task={task}", f"method={method}")
        assert config.recipe.protocol
        assert config.recipe.source


def test_without_a_published_row_the_method_keeps_its_defaults(compose):
    config = compose("task=rte", "method=sora")
    assert config.recipe.protocol  # the task's
    assert config.recipe.source is None
    assert asdict(config.method) == asdict(METHODS["sora"]())


ROWS = {name: recipes(name) for name in options("recipe")}
PROTOCOLS = protocols()


def test_every_row_of_the_tables_belongs_to_a_cell():
    """A name that no cell has would silently do nothing."""
    known = {group: options(group) for group in GROUPS}
    assert all(model in known["model"] and task in known["task"] for model, task in PROTOCOLS)
    for model, task, method, budget in (key for rows in ROWS.values() for key in rows):
        assert model in known["model"]
        assert task in known["task"]
        assert method in known["method"]
        assert budget is None or budget in known["budget"]
    files = {path.stem for path in (CONF / "recipe/tables").iterdir()}
    assert files <= {f"{name}-{model}" for name in ("protocol", *known["recipe"]) for model in known["model"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_in_force_in_its_cell(compose, name):
    """The first and the last task of each backbone and method."""
    cells = {}
    for model, task, method, budget in ROWS[name]:
        cells.setdefault((model, method, budget), []).append(task)
    for (model, method, budget), tasks in cells.items():
        for task in {tasks[0], tasks[-1]}:
            row = ROWS[name][model, task, method, budget]
            config = compose(
                f"model={model}",
                f"task={task}",
                f"method={method}",
                f"recipe={name}",
                *([f"budget={budget}"] * bool(budget)),
            )
            lengths = config.recipe.lengths
            for column in row.keys() - {"source"}:
                sections = (config.recipe, config.training, config.model, config.task, config.method)
                (found,) = (
                    [lengths[column]]
                    if column in lengths
                    else [getattr(section, column) for section in sections if hasattr(section, column)]
                )
                assert found == row[column].value, (model, task, column)
            assert config.recipe.source == row.get("source", config.recipe.source)


LENGTHS = {"warmup_steps", "eval_steps"}


@pytest.mark.slow
@pytest.mark.parametrize("model, task", PROTOCOLS)
def test_a_protocol_sets_its_lengths_together(compose, model, task):
    row = PROTOCOLS[model, task]
    assert row.keys() >= LENGTHS | {"epochs", "total_steps"}
    config = compose(f"model={model}", f"task={task}", "method=bitfit")
    assert config.training.epochs == row["epochs"].value
    assert config.recipe.total_steps == row["total_steps"].value
    assert config.recipe.lengths == {key: row[key].value for key in LENGTHS}
    assert config.recipe.protocol == row["source"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("- method: lora\n  rows: {rte: {alfa: 1}}", "alfa isn't an option of lora: did you mean alpha"),
        ("- rows: {rte: {alpha: 1}}", "alpha isn't an option of all methods"),
        ("- method: loro\n  rows: {rte: {alpha: 1}}", "no method is called 'loro': did you mean lora or "),
        ("- method: lora\n  row: {rte: {alpha: 1}}", "paper-deberta_v3_base.yaml can't be read: .*'row'"),
        ("- {method: [", "paper-deberta_v3_base.yaml can't be read: "),
        ("- method: lora\n  rows: {rte: }", "paper-deberta_v3_base.yaml can't be read: rows must be {task: "),
        ("- method: lora\n  rows: rte", "paper-deberta_v3_base.yaml can't be read: rows must be {task: "),
        ("- 3", "paper-deberta_v3_base.yaml can't be read: "),
    ],
)
def test_a_damaged_table_is_named(tmp_path, monkeypatch, text, message):
    (tmp_path / "paper-deberta_v3_base.yaml").write_text(text)
    monkeypatch.setattr(tables, "TABLES", tmp_path)
    with pytest.raises(UserError, match=message):
        list(tables.nodes())


def test_a_protocol_has_no_options_of_one_method(tmp_path, monkeypatch):
    (tmp_path / "protocol-deberta_v3_base.yaml").write_text("- rows: {rte: {alpha: 1}}")
    monkeypatch.setattr(tables, "TABLES", tmp_path)
    with pytest.raises(UserError, match="alpha isn't an option of all methods"):
        list(tables.nodes())
    (tmp_path / "protocol-deberta_v3_base.yaml").write_text("- {like: deberta_v9, rows: {rte: {}}}")
    with pytest.raises(UserError, match="deberta_v9"):
        list(tables.nodes())


@pytest.mark.parametrize("model, task", PROTOCOLS)
def test_a_protocol_s_steps_are_the_epochs_of_the_official_rows(compose, model, task):
    config = compose(f"model={model}", f"task={task}", "method=adalora", "recipe=paper")
    training, rows = config.training, config.task.rows[config.task.train_split]
    expected = -(-rows // training.batch_size) * training.epochs
    windows = 0.015 if task in SQUAD else 0  # a question has one or more, by the tokenizer
    assert 0 <= config.recipe.total_steps / expected - 1 <= windows


@pytest.mark.parametrize("recipe", options("recipe"))
def test_the_command_line_wins(compose, recipe):
    plain = compose("task=cola", f"recipe={recipe}")
    assert plain.recipe.name == recipe
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


def test_every_method_has_options_and_a_dataclass():
    assert options("method") == sorted(METHODS)


@pytest.mark.parametrize("method", options("method"))
def test_a_method_s_file_repeats_none_of_its_options(method):
    """Each default is written once, in the method's dataclass."""
    node = OmegaConf.load(CONF / "method" / f"{method}.yaml")
    assert set(node) == {"defaults", "training"}
    assert set(node.training) == {"lr"}


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_a_method_has_a_line_of_help(method):
    lines = {option.name: option.metadata.get("help") for option in fields(METHODS[method]) if option.name != "name"}
    assert all(lines.values()), lines


@pytest.mark.parametrize(
    ("launcher", "part", "package"),
    [("workers", "joblib", "hydra-joblib-launcher"), ("slurm", "submitit_slurm", "hydra-submitit-launcher")],
)
def test_a_launcher_that_is_not_installed_says_how_to_install_it(monkeypatch, launcher, part, package):
    register()
    Plugins.instance()
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], f"{part}.yaml")
    with (
        hydra.initialize_config_dir(str(CONF), version_base="1.3"),
        pytest.raises(MissingConfigException) as caught,
    ):
        hydra.compose("config", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
    assert explain(caught.value) == (
        f"hydra/launcher={launcher} needs {package}: install it with pip install -e '.[launchers]'"
    )


def test_a_cluster_s_options_in_local_win_over_the_launcher_s_and_the_command_line_over_them(tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "slurm.yaml").write_text("partition: mine\ngpus_per_node: null\ntimeout_min: 60\n")
    register()
    path = f"hydra.searchpath=[file://{tmp_path}]"
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        tree = hydra.compose(
            "config",
            overrides=["hydra/launcher=slurm", "hydra.launcher.timeout_min=90", path],
            return_hydra_config=True,
        )
    launcher = tree.hydra.launcher
    assert (launcher.partition, launcher.gpus_per_node, launcher.timeout_min) == ("mine", None, 90)
    assert launcher.max_num_timeout > 0  # submitit's own 0 would let a run end at its first limit
    assert launcher._target_.endswith("SlurmLauncher")
