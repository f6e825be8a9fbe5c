"""Options and facts become a plan: nothing is changed on the way, and what can't run is refused."""

from copy import deepcopy
from dataclasses import FrozenInstanceError

import pytest

from adalora.backbones.load import blank
from adalora.backbones.targets import target_modules
from adalora.config.methods import METHOD_CONFIGS, AdaLoRAConfig, IncreLoRAConfig, PRILoRAConfig, SoRAConfig
from adalora.errors import UserError
from adalora.methods import create
from adalora.plan import Facts, make_plan, resolve


def shape(model):
    """What a model is, and what of it is trained."""
    return [(name, type(module)) for name, module in model.named_modules()], [
        (name, p.shape, p.requires_grad) for name, p in model.named_parameters()
    ]


@pytest.mark.parametrize("method", METHOD_CONFIGS)
def test_resolving_changes_neither_options_nor_facts(compose, method):
    options = compose("task=rte", f"method={method}", "method.modules=[query]" if method == "lora" else "seed=1")
    facts = Facts(options.task.rows, blank(options.backbone, 2), None)
    before, built = deepcopy(options), shape(facts.built)
    plan = resolve(options, facts)
    assert options == before
    assert shape(facts.built) == built
    assert resolve(options, facts) == plan


@pytest.mark.parametrize("method", METHOD_CONFIGS)
def test_a_plan_leaves_no_length_and_no_size_open(compose, method):
    plan = make_plan(options := compose("task=rte", f"method={method}"), options.task.rows)
    assert all(getattr(plan.config.method, name) is not None for name in plan.config.method.lengths)
    assert plan.config.training.warmup_steps == (100 if method == "increlora" else 200)  # the scripts'
    assert plan.config.training.total_steps == plan.total_steps == 3900
    assert plan.config.budget.params == 331_776
    assert plan.config.model.head == ["pooler", "classifier"]
    with pytest.raises(FrozenInstanceError):
        plan.config.seed = 2


def test_the_backbone_has_the_maps_that_the_method_adapts(compose):
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
            r"method\.rank=900 is more than 768, the smaller side of the adapted maps",
        ),
        (
            ["method=adalora", "method.target_rank=700", "budget=custom", "budget.params=116_000_000"],
            r"method\.init_rank=1050 is more than 768",
        ),
        (["task.max_length=100_000"], r"needs about [\d.e+]+ TiB: raise training\.micro_batches, or lower"),
        (["training.max_steps=4", "method.final_steps=4"], r"leave none of the 4 training steps for pruning"),
    ],
)
def test_a_dry_run_refuses_what_can_t_run(compose, overrides, message):
    options = compose(*overrides)
    with pytest.raises(UserError, match=message):
        make_plan(options, options.task.rows)


SIZELESS = ("full", "bitfit", "peft")


def attach(compose, method):
    """Attach a method to DeBERTaV3-base without weights, as one's own loop does."""
    backbone = compose("task=rte", f"method={method.config.name}").backbone
    model = blank(backbone, 2).requires_grad_(False)
    method.attach(model, target_modules(model, backbone), total_steps=10)


@pytest.mark.parametrize("name", [name for name in METHOD_CONFIGS if name not in SIZELESS])
def test_a_method_without_its_size_says_so(compose, name):
    """No budget has filled the options."""
    with pytest.raises(UserError, match=r"method\.\w+ is open: give it, or solve it from a budget"):
        attach(compose, create(METHOD_CONFIGS[name]().planned(10)))


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
    with pytest.raises(UserError, match=r"method\.\w+ is open: \w+Config\(\.\.\.\)\.planned\(total_steps\)"):
        attach(compose, create(config))
    attach(compose, create(config.planned(10)))
