"""Cells: settings with seeds, composed and identified."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from joblib import Parallel, delayed

from adalora.config import register, validate
from adalora.config.mistakes import check_arguments, explain
from adalora.config.recipes import aliases
from adalora.config.schema import Config
from adalora.config.validate import refuse_architecture
from adalora.errors import UserError
from adalora.options import key_of
from adalora.paths import CONF
from adalora.planning.identity import cell_id
from adalora.sweep.settings import Setting

ALONE = 8  # up to so many settings are composed in this process: starting another takes a second


@dataclass(frozen=True)
class Cell:
    """A run of a sweep."""

    table: str
    overrides: tuple[str, ...]  # of the train.py command
    config: Config = field(repr=False)
    id: str  # adalora/planning/identity.py

    @property
    def command(self) -> str:
        """The shell command that runs it."""
        return command(self.overrides)


def command(overrides: Sequence[str]) -> str:
    """The shell command for some overrides."""
    return f"python train.py {shlex.join(overrides)}"


def select(settings: Sequence[Setting], only: str) -> list[Setting]:
    """Select the settings that match all options in `only`, such as `task=rte,mrpc method=adalora`.

    Raises:
        UserError: `only` isn't valid, or nothing matches.
    """
    wanted = {}
    for item in only.split():
        key, equals, values = item.partition("=")
        if not (key and equals and values):
            raise UserError(f"ONLY={item}: give options of the cells, such as ONLY='task=rte method=adalora,lora'")
        wanted[key] = [aliases().get(value, value) if key == "budget" else value for value in values.split(",")]
    found = []
    for setting in settings:
        options = dict(override.split("=", 1) for override in setting.overrides)
        if all(options.get(key) in values for key, values in wanted.items()):
            found.append(setting)
    if not found:
        there: dict[str, list[str]] = {}
        for setting in settings:
            for override in setting.overrides:
                key, _, value = override.partition("=")
                there.setdefault(key, []).append(value)
        why = f"cells have the options {', '.join(sorted(there))}; SEEDS= and ARGS= are for others (see make list)"
        for key, allowed in wanted.items():
            if key in there and not set(allowed) & set(there[key]):
                why = f"{key} is {', '.join(dict.fromkeys(there[key]))}"
        raise UserError(f"ONLY='{only}' matches no cell: {why}")
    return found


def extend(setting: Setting, extra: Sequence[str]) -> tuple[str, ...]:
    """Add overrides to a setting; they replace its own with the same key. Raises `UserError` for a seed."""
    keys = set(map(key_of, extra))
    if "seed" in keys:
        raise UserError("seed= is for single runs: give SEEDS=1,2,3")
    return (*(override for override in setting.overrides if key_of(override) not in keys), *extra)


def cells_of(
    settings: Sequence[Setting],
    seeds: Sequence[int],
    extra: Sequence[str],
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[list[Cell], list[str]]:
    """Every setting with every seed. All settings of one seed come before the next, so any prefix is a fair comparison.

    Args:
        settings: the settings.
        seeds: the seeds of each.
        extra: further overrides for all.
        meanwhile: called once while other processes compose, to import what is needed next.

    Returns:
        The cells, and a line for each setting that isn't valid.

    Raises:
        UserError: `extra` is wrong, or no setting is valid.
    """
    refuse_architecture(extra)
    wanted = dict.fromkeys((setting.table, extend(setting, extra)) for setting in settings)
    found, refused = [], []
    for (table, overrides), config in zip(wanted, compose_all([item for _, item in wanted], meanwhile), strict=True):
        if isinstance(config, str):
            refused.append((command(overrides), config))
            continue
        try:
            cell_id(config)  # lengths that don't fit into the training
        except UserError as error:
            refused.append((command(overrides), str(error)))
        else:
            found.append((table, overrides, config))
    if not found:
        raise UserError("; ".join(dict.fromkeys(reason for _, reason in refused)))
    cells: dict[str, Cell] = {}
    for seed in seeds:
        for table, overrides, config in found:
            seeded = replace(config, seed=seed)
            identity = cell_id(seeded)
            cell = cells.setdefault(identity, Cell(table, (*overrides, f"seed={seed}"), seeded, identity))
            if sources(cell.config) != sources(config):
                same = command(cell.overrides[:-1])
                refused.append(
                    (command(overrides), f"only where or how its data or weights are read differs from {same}")
                )
    return list(cells.values()), [f"{text}: {reason}" for text, reason in dict.fromkeys(refused)]


def sources(config: Config) -> tuple[object, ...]:
    """Options that a cell's id covers only in part: in one sweep, settings with the same id must agree in them."""
    return config.task, config.model, config.data_root


def compose_all(settings: Sequence[tuple[str, ...]], meanwhile: Callable[[], None]) -> Iterator[Config | str]:
    """Compose and validate every setting on all cores (0.1 to 0.3 s each); yields a configuration or an error line."""
    if len(settings) <= ALONE:
        meanwhile()
        yield from map(compose, settings)
        return
    results = Parallel(os.cpu_count(), batch_size=4, return_as="generator")(map(delayed(compose), settings))
    meanwhile()
    yield from results


def compose(overrides: Sequence[str]) -> Config | str:
    """Compose and validate a configuration, or return what is wrong in one line."""
    register()
    GlobalHydra.instance().clear()
    try:
        check_arguments(overrides)
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return validate(hydra.compose("config", overrides=list(overrides)), overrides)
    except (HydraException, yaml.YAMLError, UnicodeDecodeError) as error:
        return explain(error)
    except UserError as error:
        return str(error)
