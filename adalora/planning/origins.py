"""Where every value of a run comes from, for its record: published, ours, the budget, a default, or the user."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf

from adalora.backbones.options import GENERIC
from adalora.config.lengths import NEAR, at_steps
from adalora.config.schema import TRAINING_LENGTHS, Config, Resolved
from adalora.methods.options import MethodConfig
from adalora.paths import CONF
from adalora.planning.identity import options_of
from adalora.records.result import Option, Origin

GROUPS = ("model", "task", "method", "budget", "recipe")
SECTIONS = ("model", "task", "method", "training")
UNCOMPARED = (
    "precision",
    "fast",
    "model.attention",
    "training.lr",
    "training.eval_batch_size",
    "training.micro_batches",
)
"""Options whose defaults aren't the published method's: they affect rounding at most, or are ours (a learning rate)."""


@dataclass(frozen=True)
class Known:
    """What decides origins; options are by dotted key."""

    before: Mapping[str, Any]  # with the user's values, before budget and lengths were solved
    plain: Mapping[str, Any]  # without the user's values
    stated: Mapping[str, Any]  # the recipe's
    published: Mapping[str, bool]  # whether these are published
    lengths: Collection[str]  # options in steps
    fixed: Collection[str] = ()  # options that the method's form fixes


def origins(config: Config, resolved: Resolved, overrides: Sequence[str], eval_rows: int) -> dict[str, Option]:
    """The options that change a run's numbers, by key, each with its origin.

    Args:
        config: the options before the budget and the lengths were solved.
        resolved: the options in force.
        overrides: what `config` was composed from.
        eval_rows: rows of an evaluation, which limit scaled intervals (`fit_lengths`).
    """
    recipe = config.recipe
    parts = {section: vars(getattr(config, section)) for section in SECTIONS}
    before = {f"{section}.{name}": value for section, part in parts.items() for name, value in part.items()}
    lengths = {f"training.{name}" for name in TRAINING_LENGTHS} | {f"method.{name}" for name in config.method.lengths}
    stated = recipe.values.get("protocol", {}) | recipe.values.get("source", {})
    known = Known(before, defaults(config, overrides), stated, recipe.published, lengths, fixed_by_form(config.method))
    return decide(dict(flat(options_of(resolved) | {"fast": resolved.fast})), known, eval_rows)


def decide(values: Mapping[str, Any], known: Known, eval_rows: int) -> dict[str, Option]:
    """Where the value of every option comes from.

    Only the value counts, not who set it. The origin is the first that applies: `default` if the method's form fixes
    the value; `published` or `ours`, as the recipe's table says, if the value is the recipe's; `budget` if the budget
    filled it in; `default` if it would be the same without the user's options (command line, experiment, local file);
    else `user`. Any value but the recipe's is `user` if the recipe has one.
    """
    total, steps = values["training.total_steps"], known.stated.get("recipe.total_steps")
    at = {
        key: at_steps({name: known.stated[key]}, steps, total, values["training.batch_size"], eval_rows)[name]
        for key in known.lengths & known.stated.keys()
        for name in [key.rpartition(".")[2]]
    }
    found = {}
    for key, value in values.items():
        default, before = known.plain.get(key), known.before.get(key)
        table, reference = ("recipe.total_steps" if key == "training.total_steps" else key), None
        origin: Origin = "user"
        if key in known.fixed:
            origin, reference = "default", value
        elif table in known.stated:
            expected = at.get(key, known.stated[table])
            if key == "training.total_steps" and abs(total / expected - 1) <= NEAR:
                expected = total
            if known.published.get(table):
                reference = expected
            if value == expected:
                origin = "published" if known.published.get(table) else "ours"
        elif key == "training.total_steps":
            same = all(
                known.before.get(name) == known.plain.get(name) for name in ("training.epochs", "training.max_steps")
            )
            origin = "default" if same else "user"
        elif key == "model.targets":  # narrowed by method.modules
            origin, reference = ("default", value) if before == default else ("user", default)
        elif value is not None and before is None and key not in known.lengths and key in known.before:
            origin = "budget"
        else:
            origin = "default" if value == default or (key in known.lengths and before is None) else "user"
            reference = None if key in UNCOMPARED else default
        scaled = at.get(key) != known.stated.get(key) and origin != "user" if key in known.lengths else None
        found[key] = Option(value, origin, reference, scaled, key in known.fixed)
    return found


def flat(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options by dotted key, without names of groups, what follows from the task, and the seed."""
    for section, part in options.items():
        if isinstance(part, dict):
            yield from (
                (f"{section}.{name}", value) for name, value in part.items() if (section, name) not in NO_OPTION
            )
        elif section != "seed":
            yield section, part


NO_OPTION = (("method", "name"), ("task", "name"), ("model", "head"))


def fixed_by_form(method: MethodConfig) -> set[str]:
    """The options that the method's form fixes: doublets have no regulariser, say."""
    form = getattr(method, "form", None)
    if form is None:
        return set()
    kind: Any = type(method)
    one, other = kind(form=form), kind()
    names = {field.name for field in fields(kind)} - {"form"}
    return {f"method.{name}" for name in names if getattr(one, name) != getattr(other, name)}


def defaults(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """The options' values without the user's, for the same model, task, method, budget and recipe, where they exist."""
    search = tuple(text for text in overrides if text.startswith("hydra.searchpath="))
    given, generic = choices(tuple(overrides), search), GENERIC.get(config.model.model_type)
    tree = plain(given, search)
    if tree["model"].get("name") != config.model.name and dict(given)["model"] != generic:  # another architecture
        tree = plain(tuple((dict(given) | {"model": generic}).items()), search)
    found = {f"{section}.{name}": value for section in SECTIONS for name, value in tree[section].items()}
    return {key: value for key, value in found.items() if value != MISSING} | {
        key: tree[key] for key in ("precision", "fast")
    }


def choices(overrides: tuple[str, ...], search: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The names that these overrides choose in each of `GROUPS`, also by an experiment or a task."""
    if HydraConfig.initialized():
        found = HydraConfig.get().runtime.choices
    else:
        chosen = [text for text in overrides if text.partition("=")[0].partition("@")[0] in (*GROUPS, "experiment")]
        found = compose_once((*chosen, *search), with_hydra=True).hydra.runtime.choices
    return tuple((group, found[group]) for group in GROUPS)


@cache
def plain(given: tuple[tuple[str, str], ...], search: tuple[str, ...]) -> dict[str, Any]:
    """The configuration of these choices, without experiment and local file."""
    tree = compose_once((*(f"{group}={name}" for group, name in given), *search), local=False)
    return cast(dict[str, Any], OmegaConf.to_container(tree, resolve=False))


@cache
def compose_once(overrides: tuple[str, ...], with_hydra: bool = False, local: bool = True) -> DictConfig:
    """Compose in the Hydra that is initialised, which knows the user's folders, or else in ours."""
    hydras = GlobalHydra.instance()
    with nullcontext() if hydras.is_initialized() else hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        there = hydras.config_loader().get_group_options("local", config_name="config", overrides=list(overrides))
        drop = ["~local"] if there and not local else []
        return hydra.compose("config", overrides=[*overrides, *drop], return_hydra_config=with_hydra)
