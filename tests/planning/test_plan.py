"""Options and facts become a plan: nothing is modified, and what can't run is an error."""

import shutil
from copy import deepcopy
from dataclasses import FrozenInstanceError

import pytest

from adalora.backbones.load import target_modules
from adalora.backbones.outline import outline_of
from adalora.errors import UserError
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.discovery import METHODS, create
from adalora.methods.increlora.options import IncreLoRAConfig
from adalora.methods.prilora.options import PRILoRAConfig
from adalora.methods.sora.options import SoRAConfig
from adalora.planning.memory import GIB, Machine
from adalora.planning.plan import Facts, make_plan, resolve
from adalora.progress.terminal import console, show_plan
from adalora.run.dry_run import dry_run
from tests.blank import blank


@pytest.mark.parametrize("method", METHODS)
def test_resolving_changes_neither_options_nor_facts_and_leaves_nothing_open(compose, method):
    options = compose("task=rte", f"method={method}", "method.modules=[query]" if method == "lora" else "seed=1")
    facts = Facts(options.task.rows, outline_of(options.backbone, 2), None, Machine("a GPU", 80 * GIB, 1))
    before, outline = deepcopy(options), deepcopy(facts.outline)
    plan = resolve(options, facts)
    assert options == before
    assert facts.outline == outline
    assert resolve(options, facts) == plan
    assert plan.config.method.name == method
    assert all(getattr(plan.config.method, name) is not None for name in plan.config.method.lengths)
    assert plan.config.training.warmup_steps == (100 if method == "increlora" else 200)  # the scripts'
    assert plan.config.training.total_steps == plan.total_steps == 3900
    assert plan.config.budget.params == 331_776
    assert plan.config.model.head == ["pooler", "classifier"]
    with pytest.raises(FrozenInstanceError):
        plan.config.seed = 2


def test_the_backbone_has_the_modules_that_the_method_adapts(compose):
    options = compose("task=rte", "method=lora", "method.modules=[query,value]")
    assert len(options.model.targets) == 6  # as typed
    plan = make_plan(options, options.task.rows)
    assert list(plan.config.model.targets) == ["query", "value"]
    assert len(plan.shapes) == 24


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=deberta_minilm", "task=rte", "task.max_length=600"],
            r"task\.max_length=600 is more than the 512 positions",
        ),
        (
            ["method=lora", "method.rank=900", "budget=custom", "budget.params=149_299_200"],
            r"method\.rank=900 is more than 768, the smaller side of the adapted modules",
        ),
        (
            ["method=adalora", "method.target_rank=700", "budget=custom", "budget.params=116_000_000"],
            r"method\.init_rank=1050 is more than 768",
        ),
        (["task=igbo", "model=olmo2_7b", "task.eval_length=8192"], r"task\.eval_length=8192 is more than the 4096 pos"),
        (
            ["task=metamath", "model=olmo2_7b", "task.max_length=4096"],
            r"task\.max_length \+ task\.max_new_tokens=4\d+ is more than the 4096 positions",
        ),
        (
            ["task=xsum", "model.pos_query_base_only=true"],
            r"pos_query_base_only=true is for DeBERTa: BART-large has no",
        ),
        (["task=xsum", "task.max_target_length=2000"], r"task\.max_target_length=2000 is more than the 1024 positions"),
        (["task.max_length=100_000"], r"needs about 1,300 TiB: raise training\.micro_batches, or lower"),
        (["training.max_steps=4", "method.final_steps=4"], r"leave none of the 4 training steps for pruning"),
    ],
)
def test_a_dry_run_refuses_what_can_t_run(compose, overrides, message):
    options = compose(*overrides)
    with pytest.raises(UserError, match=message):
        make_plan(options, options.task.rows)


@pytest.mark.parametrize(
    ("options", "steps", "rows"),
    [
        (["task=rte", "training.batch_size=10", "training.epochs=1"], 249, 277),
        (["task=rte", "training.batch_size=10", "training.epochs=1", "task.eval_rows=50"], 249, 50),
        (["task=mnli", "training.max_steps=9", "task.eval_split=validation_matched"], 9, 9815),
        (["task=rte", "training.batch_size=10", "training.epochs=1", "task.held_out=500"], 199, 500),
        (["task=gsm8k", "training.batch_size=10", "training.epochs=1"], 728, 200 + 1319),
        (["task=gsm8k", "training.max_steps=9", "task.held_out=400", "task.eval_split=test"], 9, 1319),
    ],
)
def test_a_dry_run_counts_the_rows_that_the_run_would_read(compose, monkeypatch, options, steps, rows):
    seen = {}
    plan = lambda config, rows: seen.update(rows) or make_plan(config, rows)  # noqa: E731
    monkeypatch.setattr("adalora.run.dry_run.make_plan", plan)
    assert dry_run(compose(*options, "method=lora"))["steps"] == steps
    assert sum(seen.values()) - seen["train"] == rows


def test_a_training_split_without_a_declared_count_is_counted(compose, tiny_data, tmp_path):
    shutil.copytree(tiny_data, tmp_path, dirs_exist_ok=True)
    (tmp_path / "train.parquet").rename(tmp_path / "mine.parquet")
    options = compose("task=sst2", f"task.data_dir={tmp_path}", "task.train_split=mine", "training.epochs=1",
                      "training.batch_size=16", "method=lora")  # fmt: skip
    assert dry_run(options)["steps"] == 6


def test_what_is_trained_is_in_fp32_whatever_the_frozen_weights_are(compose):
    options = ["task=igbo", "model=olmo2_1b", "method=full", "precision=bf16", "training.max_steps=10"]
    fp32, bf16 = (
        make_plan(compose(*options, f"model.dtype={dtype}"), {"train": 100, "validation": 10})
        for dtype in ("fp32", "bf16")
    )
    assert fp32.cost.memory == bf16.cost.memory > 16 * fp32.solution.counts.total  # weight, gradient, two moments


@pytest.mark.parametrize("files", ["task.data_dir={}", "task.train_file={}/train.parquet", "data_root={0}/.."])
def test_of_files_given_the_rows_are_counted(compose, tiny_data, tmp_path, files):
    folder = shutil.copytree(tiny_data, tmp_path / "sst2")
    options = compose("task=sst2", files.format(folder), "task.held_out=6", "training.epochs=1",
                      "training.batch_size=16", "method=lora")  # fmt: skip
    assert dry_run(options)["steps"] == 6  # 90 rows are left


def test_of_several_processes_the_first_prints_the_plan(compose, monkeypatch, capsys):
    monkeypatch.setattr(console, "quiet", False)
    options = compose("task=rte", "method=lora")
    for rank, printed in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        dry_run(options)
        assert bool(capsys.readouterr().out) is printed


SIZELESS = ("full", "bitfit", "peft")


def attach(compose, method):
    """Attach a method to DeBERTaV3-base without weights, as one's own loop does."""
    backbone = compose("task=rte", f"method={method.config.name}").backbone
    model = blank(backbone, 2).requires_grad_(False)
    method.attach(model, target_modules(model, backbone), total_steps=10)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in SIZELESS])
def test_a_method_without_its_size_says_so(compose, name):
    """No budget has filled the options."""
    with pytest.raises(UserError, match=r"method\.\w+ is unset: set it, or solve it"):
        attach(compose, create(METHODS[name]().with_steps(10)))


@pytest.mark.parametrize(
    "config",
    [
        AdaLoRAConfig(init_rank=4, target_rank=2),
        SoRAConfig(max_rank=4, target_rank=2),
        PRILoRAConfig(mean_rank=2),
        IncreLoRAConfig(target_rank=2),
    ],
    ids=lambda config: config.name,
)
def test_a_method_without_its_lengths_says_how_to_fill_them(compose, config):
    with pytest.raises(UserError, match=r"method\.\w+ is unset: .*with_steps"):
        attach(compose, create(config))
    attach(compose, create(config.with_steps(10)))


def test_a_plan_names_what_differs_from_the_recipe(compose):
    def differing(*overrides):
        options = compose("task=rte", *overrides)
        return make_plan(options, options.task.rows).departures

    assert differing() == {}
    assert differing("training.max_steps=100") == {}  # lengths that scale are the recipe's
    assert differing("training.lr=1e-3", "method.alpha=32", "model.classifier_dropout=0.1") == {
        "training.lr": (1.2e-3, 1e-3),
        "model.classifier_dropout": (0.2, 0.1),
    }
    # set by the user, so it stays at any T, though it is the recipe's at 3900 steps
    assert differing("method.initial_steps=600") == {"method.initial_steps": (600, 600)}
    # the recipe's own lengths changed, and the T that they belong to
    assert differing("recipe.lengths.warmup_steps=50") == {"training.warmup_steps": (200, 50)}
    assert differing("recipe.total_steps=null") == {"recipe.total_steps": (3900, None)}
    # IncreLoRA's own warm-up and, at this budget, the other script's top_h
    assert differing("method=increlora", "budget=1.2M") == {}
    assert differing("method=increlora", "budget=1.2M", "method.top_h=5") == {"method.top_h": (9, 5)}
    assert differing("method=sora", "training.lr=1e-5") == {}  # no recipe has one


def test_the_shown_plan_gives_every_value_of_the_recipe_with_its_source(compose, capsys):
    options = compose("task=mnli", "method=increlora", "budget=1.2M", "training.lr=1e-5")
    show_plan(make_plan(options, options.task.rows), "path")
    text = " ".join(capsys.readouterr().out.split())
    assert "add_rank=1, alpha=16, dropout=0, initial_steps=1000, interval=1000, orthogonality=0.1, top_h=18" in text
    assert "method: FeiyuZhang98/IncreLoRA NLU/scripts/rank=8/run_mnli.sh add_rank=1" in text
    assert "eval_steps=1000, lr=0.0005 training: arXiv 2303.10512 Table 8" in text
    assert "warmup_steps=1000, weight_decay=0" in text
    assert "differs training.lr=1e-05 (recipe: 0.0005)" in text


def test_a_warm_up_longer_than_the_training_is_noted(compose):
    found = [
        [note for note in make_plan(compose(*options), {"train": 96, "validation": 8}).notes if "warmup_steps=" in note]
        for options in (["training.max_steps=8"], ["training.max_steps=8", "training.warmup_steps=8"])
    ]
    assert found == [[], ["training.warmup_steps=8: the learning rate rises to the last step"]]


@pytest.fixture(scope="module")
def planned_on(compose):
    """`planned_on(80, "task=xsum", ...)`: the plan for a GPU of so many GiB."""
    built = {}

    def go(memory, *overrides, processes=1):
        options = compose(*overrides)
        model = options.backbone.name
        if model not in built:
            built[model] = outline_of(options.backbone, 2)
        return resolve(options, Facts(options.task.rows, built[model], None, Machine("a GPU", memory * GIB, processes)))

    return go


XSUM = ("task=xsum", "method=lora", "budget=2.20%")


def test_a_step_that_may_not_fit_is_said_with_the_remedy(planned_on):
    plan = planned_on(80, *XSUM)
    assert 100 < plan.cost.memory / GIB < 115  # 64 rows of 768 tokens in fp32
    (note,) = [note for note in plan.notes if "a GPU" in note]
    assert note == "a step may need 110 GiB, a GPU has 80 GiB: set training.micro_batches=2 (or auto) if it runs out"
    assert plan.config.training.micro_batches == 1  # what was asked for
    assert not any("a GPU" in note for note in planned_on(141, *XSUM).notes)
    assert not any("a GPU" in note for note in planned_on(80, *XSUM, "precision=bf16").notes)


@pytest.mark.parametrize(
    ("memory", "processes", "expected"), [(141, 1, 1), (80, 1, 2), (40, 1, 4), (16, 1, 16), (40, 4, 1)]
)
def test_auto_takes_the_fewest_passes_that_fit(planned_on, memory, processes, expected):
    plan = planned_on(memory, *XSUM, "training.micro_batches=auto", processes=processes)
    assert plan.config.training.micro_batches == expected
    assert plan.cost.memory <= 0.9 * memory * GIB
    more = planned_on(memory, *XSUM, f"training.micro_batches={expected // 2 or 1}", processes=processes)
    assert expected == 1 or more.cost.memory > 0.9 * memory * GIB


def test_auto_refuses_what_cannot_fit(planned_on):
    with pytest.raises(UserError, match=r"a step of one row needs about [\d.]+ GiB"):
        planned_on(2, *XSUM, "training.micro_batches=auto")


def test_generation_keeps_keys_and_values_of_every_row(planned_on):
    asked = ("task=metamath", "model=llama32_3b", "method=lora", "budget=rank8", "precision=bf16")
    assert planned_on(80, *asked, "training.eval_batch_size=auto").config.training.eval_batch_size < 512
    assert any("an evaluation may need more" in note for note in planned_on(24, *asked).notes)


def test_attention_is_that_of_all_heads_and_of_both_sides(compose):
    """A row of s tokens: scores and values are 4 q s^2 FLOPs a layer forward, q the width of all query heads."""
    options = compose("task=igbo", "model=qwen3_0_6b", "method=lora", "training.batch_size=1")
    plan = make_plan(options, options.task.rows)
    outline = outline_of(options.backbone, 0)
    s, weights = plan.cost.mean_tokens, outline.linear_weights()
    assert plan.cost.flops == pytest.approx(s * 4 * weights + 3 * 28 * 4 * 2048 * s * s)
    options = compose("task=xsum", "method=lora", "training.batch_size=1")
    plan, outline = make_plan(options, options.task.rows), outline_of(options.backbone, 0)
    (s, t), d = options.task.mean_tokens, 1024
    attention = 12 * 4 * d * (s * s + t * t + t * s)
    encoder, decoder, crossing = 12 * 12 * d * d, 12 * 14 * d * d, 12 * 2 * d * d
    assert plan.cost.flops == pytest.approx(4 * (s * (encoder + crossing) + t * (decoder + 50265 * d)) + 3 * attention)


def test_an_evaluation_is_as_large_as_fits(planned_on):
    asked = ("task=mnli", "method=lora", "training.eval_batch_size=auto")
    sizes = [planned_on(memory, *asked).config.training.eval_batch_size for memory in (8, 24, 80)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 128 < sizes[-1]
    notes = planned_on(8, "task=mnli", "method=lora", "training.micro_batches=auto").notes
    assert f"an evaluation may need more than a GPU has: set training.eval_batch_size={sizes[0]} (or auto)" in notes
