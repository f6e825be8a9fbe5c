"""The published hyperparameters: tables in `conf/recipe/tables`, one file per source and backbone.

A file is a list of blocks. A column has its option's name, which determines the section: `recipe.lengths` for lengths
in steps, `OPTION_GROUPS` (`training` for its fields), else `method`. `total_steps` is the T that the lengths belong to.

    - method: adalora
      source: "arXiv 2303.10512 Table 8"
      published: true
      common: {alpha: 16}
      rows:
        rte: {lr: 1.2e-3, orthogonality: {value: 0.3, published: false}}

`published` says whether a block's values, or a single value, are published for this method, task and backbone.

A block without a method applies to all methods. Every block of a protocol is one, as are a recipe's changes to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, NamedTuple, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from adalora.config.schema import TRAINING_LENGTHS, Config, Training
from adalora.errors import UserError
from adalora.methods.discovery import METHODS
from adalora.methods.options import MethodConfig
from adalora.options import instead, require
from adalora.paths import CONF

RECIPES, TABLES, BUDGETS = CONF / "recipe", CONF / "recipe/tables", CONF / "budget"
OPTION_GROUPS = {
    "classifier_dropout": "model",
    "pos_query_base_only": "model",
    "max_length": "task",
    "loss_on": "task",
    "train_modules": "task",
    "total_steps": "recipe",
} | {option.name: "training" for option in fields(Training)}
GROUPS = tuple(f"recipe/tables/{name}" for name in ("protocol", "method", "budget"))
"""Hydra groups of the rows: of a task, of a method on it, and of that at a budget."""


class Stated(NamedTuple):
    """A value of a table."""

    value: Any
    published: bool


Row = dict[str, Any]  # column -> Stated, and `source`


@dataclass
class Block:
    """Rows by task with a common source."""

    rows: dict[str, Any]
    published: bool = False
    method: str | None = None  # None: all methods
    budgets: tuple[str | None, ...] = (None,)  # budgets that it applies to, as a diff; None: all
    like: str | None = None  # a protocol that starts from this backbone's rows
    source: str | None = None  # {task} is replaced by the row's task; a row may have its own
    common: dict[str, Any] = field(default_factory=dict)  # added to every row


def nodes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Group, name and config of every row, for the defaults list of `conf/config.yaml`.

    The groups are `GROUPS`. The names are `<recipe>-<model>-<task>`, with `-<method>` after that, and with `-<budget>`
    after that, under each of the budget's names. Every recipe but `paper` is a diff over it.

    Raises:
        UserError: a table can't be read, or a column isn't an option.
    """
    protocol, paper = protocols(), recipes("paper")
    of_task, of_method, at_budget = GROUPS
    for name in sorted(path.stem for path in RECIPES.glob("*.yaml")):
        for (model, task), row in merged(protocol, changes(name)).items():
            yield of_task, f"{name}-{model}-{task}", node(row, "protocol", None)
        for (model, task, method, budget), row in merged(paper, recipes(name)).items():
            cell = f"{name}-{model}-{task}-{method}"
            group, key = (of_method, cell) if budget is None else (at_budget, f"{cell}-{budget}")
            yield group, key, node(row, "source", method)


def protocols() -> dict[tuple[str, str], Row]:
    """The protocols: what all methods share, by (model, task)."""
    table = {(model, task): (block, row) for model, block in blocks("protocol") for task, row in rows_of(block)}
    for (model, task), (block, row) in table.items():
        if block.like is not None:
            there = (block.like, task) in table
            require(there, f"conf/recipe/tables: {model} is like {block.like}, which has no row {task}")
            others = {column: entry for column, entry in table[block.like, task][1].items() if column != "source"}
            borrowed = {column: Stated(entry.value, block.published) for column, entry in others.items()}
            table[model, task] = block, borrowed | row
    return {key: row for key, (_, row) in table.items()}


def recipes(name: str) -> dict[tuple[str, str, str, str | None], Row]:
    """A recipe's rows for methods, by (model, task, method, budget or None)."""
    return {
        (model, task, block.method, label): row
        for model, block in blocks(name)
        if block.method is not None
        for task, row in rows_of(block)
        for budget in block.budgets
        for label in labels(budget)
    }


def labels(budget: str | None) -> list[str | None]:
    """A budget's name and its aliases."""
    name = aliases().get(budget or "", budget)
    return [name, *(alias for alias, target in aliases().items() if target == name)]


@cache
def aliases() -> dict[str, str]:
    """The budgets of `conf/budget` that are another name of one: their defaults begin with it."""
    firsts = {path.stem: OmegaConf.select(OmegaConf.load(path), "defaults[0]") for path in BUDGETS.glob("*.yaml")}
    return {alias: name for alias, name in sorted(firsts.items()) if name in firsts}


def changes(name: str) -> dict[tuple[str, str], Row]:
    """A recipe's changes to the protocol, by (model, task)."""
    return {(model, task): row for model, block in blocks(name) if block.method is None for task, row in rows_of(block)}


def merged(rows: dict[Any, Row], over: dict[Any, Row]) -> dict[Any, Row]:
    """Merge two tables; the second one's values win."""
    return {key: rows.get(key, {}) | over.get(key, {}) for key in rows | over}


def blocks(name: str) -> Iterator[tuple[str, Block]]:
    """Read the blocks of the tables named `name`, each with its file's backbone. Raises `UserError`."""
    for path in sorted(TABLES.glob(f"{name}-*.yaml")):
        try:
            for entry in cast(list[Any], OmegaConf.to_container(OmegaConf.load(path))):
                block = Block(**entry)
                if not (isinstance(block.rows, dict) and all(isinstance(row, dict) for row in block.rows.values())):
                    raise TypeError("rows must be {task: {column: value}}, {} for a task without values")
                if not isinstance(block.published, bool):
                    raise TypeError(f"published must be true or false, and is {block.published!r}")
                _ = dict(rows_of(block))  # raises TypeError
                yield path.stem.removeprefix(f"{name}-"), block
        except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, TypeError) as error:
            raise UserError(f"conf/recipe/tables/{path.name} can't be read: {' '.join(str(error).split())}") from error


def rows_of(block: Block) -> Iterator[tuple[str, Row]]:
    """A block's rows by task, with its common values. Raises `TypeError`."""
    for task, row in block.rows.items():
        source = {"source": row.get("source") or (block.source or "").format(task=task)}
        values = {column: stated(value, block) for column, value in (block.common | row).items() if column != "source"}
        yield task, values | (source if source["source"] else {})


def stated(value: Any, block: Block) -> Stated:
    """A value, which may say itself whether it is published. Raises `TypeError`."""
    return Stated(**value) if isinstance(value, dict) else Stated(value, block.published)


def node(row: Row, source: str, method: str | None) -> dict[str, Any]:
    """Convert a row to a config, with its source at `recipe.<source>`. Raises `UserError`."""
    if method is not None and method not in METHODS:
        raise UserError(f"conf/recipe/tables: no method is called '{method}': {instead(method, METHODS, '')}")
    config = MethodConfig if method is None else METHODS[method]
    options = [option.name for option in fields(config)]
    lengths: dict[str, int] = {}
    values: dict[str, Any] = {}
    published: dict[str, bool] = {}
    tree: dict[str, Any] = {"recipe": {"lengths": lengths, "values": {source: values}, "published": published}}
    for column, entry in row.items():
        group = OPTION_GROUPS.get(column, "method")
        if column == "source":
            tree["recipe"][source] = entry
            continue
        value, published[f"{group}.{column}"] = entry
        if group == "method" and column not in options:
            other = instead(column, [*OPTION_GROUPS, *options], "adalora/methods has all")
            raise UserError(f"conf/recipe/tables: {column} isn't an option of {method or 'all methods'}: {other}")
        if column in (*TRAINING_LENGTHS, *config.lengths):
            lengths[column] = value
        else:
            tree.setdefault(group, {})[column] = value
        values[f"{group}.{column}"] = value
    return tree


def departures(config: Config) -> dict[str, tuple[Any, Any]]:
    """Options that differ from the recipe, as key -> (the recipe's value, the value used). A length that is set always
    counts as different, because it doesn't scale."""
    recipe, found = config.recipe, {}
    for key, value in (recipe.values.get("protocol", {}) | recipe.values.get("source", {})).items():
        section, _, name = key.rpartition(".")
        now = getattr(getattr(config, section), name)
        stays = now is not None and name in recipe.lengths  # whatever T is
        now = recipe.lengths.get(name) if now is None else now
        if stays or now != value:
            found[key] = (value, now)
    return found
