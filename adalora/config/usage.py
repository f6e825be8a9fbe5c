"""The text of `python train.py --help`: choices and how to use them."""

import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any

from adalora.methods.discovery import METHODS
from adalora.options import instead, require, written
from adalora.paths import CONF

GROUPS = {
    "task": "data, metric; summarisation and decoder tasks choose their model by themselves",
    "method": "what is trained; python train.py method=NAME --help has its options",
    "budget": "adapter parameters; any number: budget=custom budget.params=250_000",
    "model": "the backbone; the minilm ones and smollm2 (make smollm2) are packages, without a hub",
    "recipe": "the published hyperparameters, picked for model, task and method",
    "experiment": "several choices by one name; experiment=tiny shows in ten steps whether a run works",
}
EXAMPLES = {
    "python train.py task=rte budget=0.3M method=adalora": "one run; again: resumes, or shows the result",
    "python train.py task=rte dry_run=true": "the plan: counts, steps, cost, sources",
    "python train.py model=deberta_minilm task=r8": "offline, minutes on two cores",
    "python train.py task=rte training.lr=1e-3 seed=2": "any option, over all else",
    "python train.py --multirun budget=0.3M,0.6M seed=1,2,3": "a sweep",
    "python train.py task=rte --cfg job": "every option and its value",
}


def usage(arguments: Iterable[str] = ()) -> str:
    """The help text at the terminal's width, or the options of a method if the arguments have `method=NAME`.

    Raises:
        UserError: there is no such method.
    """
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    for argument in arguments:
        group, _, name = argument.partition("=")
        if group == "method":
            return method_usage(name, width)
    longest = max(map(len, EXAMPLES))
    lines = ["Train one cell of a table, or sweep many.", ""]
    lines += [f"  {command:<{longest}}  # {what}" for command, what in EXAMPLES.items()]
    lines += ["", "Choose by group=name; a name is a file in conf/<group>:", ""]
    for group, what in GROUPS.items():
        lines.append(f"  {group}: {what}")
        lines += textwrap.wrap(", ".join(names(group)), width, initial_indent="    ", subsequent_indent="    ")
    lines += ["", "conf/config.yaml explains every other option. Published tables: make help. Hydra: --hydra-help."]
    return "\n".join(lines)


def method_usage(name: str, width: int) -> str:
    """List the options of a method with their defaults. Raises `UserError`."""
    listed = "python train.py --help lists all"
    require(name in METHODS, f"method={name} doesn't exist: {instead(name, METHODS, listed)}")
    config = METHODS[name]
    options = [each for each in fields(config) if each.name != "name"]
    starts = [f"  method.{each.name}={written(default_of(each))}" for each in options]
    indent = max(map(len, starts), default=0) + 2
    lines = [f"method={name}: {(config.__doc__ or '').splitlines()[0]}", ""]
    for each, start in zip(options, starts, strict=True):
        text = start.ljust(indent) + each.metadata.get("help", "")
        lines += textwrap.wrap(text, width, subsequent_indent=" " * indent) or [start]
    lines += ["  none"] if not options else []
    return "\n".join([*lines, "", "Recipes and budgets can change these values: dry_run=true shows those in force."])


def default_of(option: Field[Any]) -> Any:
    """An option's default."""
    return option.default if option.default_factory is MISSING else option.default_factory()


def names(group: str) -> list[str]:
    """The choices of a group; names starting with `_` are shared parts."""
    own = METHODS if group == "method" else ()
    return sorted({*own, *(path.stem for path in (CONF / group).glob("[!_]*.yaml"))})
