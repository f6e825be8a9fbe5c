"""Scale a recipe's lengths in steps if T isn't the recipe's T (D-lengths)."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from adalora.config.schema import Config, PlannedTraining
from adalora.methods.options import MethodConfig

NEAR = 0.05  # relative difference of T that isn't scaled: the number of SQuAD windows depends on the tokenizer


def fit_lengths(
    options: Config, method: MethodConfig, total_steps: int, eval_rows: int
) -> tuple[PlannedTraining, MethodConfig, list[str]]:
    """Fill in every length that is null: from `recipe.lengths`, scaled by T / `recipe.total_steps` unless the two are
    within 5 %; otherwise from the method's plan for T.

    Args:
        options: lengths set here aren't changed.
        method: the method's options, with the size solved or not.
        total_steps: T, the optimizer steps of this run.
        eval_rows: rows of an evaluation. A scaled interval is long enough that evaluations see no more rows than
            training does (ours: otherwise a shortened run would spend most of its time evaluating).

    Returns:
        Training and method with all lengths filled in, and a line for each scaled length.

    Raises:
        UserError: the lengths don't fit into T.
    """
    recipe = options.recipe
    lengths = at_steps(recipe.lengths, recipe.total_steps, total_steps, options.training.batch_size, eval_rows)
    notes: list[str] = []

    def fill(section: str, node: Any) -> dict[str, int]:
        values = {key: value for key, value in lengths.items() if getattr(node, key, ...) is None}
        changed = {key: value for key, value in values.items() if value != recipe.lengths[key]}
        notes.extend(f"{section}.{key} {recipe.lengths[key]} -> {value}" for key, value in changed.items())
        return values

    training = vars(options.training) | fill("training", options.training) | {"total_steps": total_steps}
    method = replace(method, **cast(Any, fill("method", method)))
    return PlannedTraining(**training), method.with_steps(total_steps), notes


def at_steps(
    lengths: Mapping[str, int], recipe_steps: int | None, total_steps: int, batch_size: int, eval_rows: int
) -> dict[str, int]:
    """Lengths of a recipe at T = `total_steps`, scaled by T / `recipe_steps` unless the two are within 5 %."""
    scale = total_steps / recipe_steps if recipe_steps else 1.0
    if abs(scale - 1) <= NEAR:
        scale = 1.0
    least = {"mask_interval": 1, "interval": 1, "eval_steps": max(math.ceil(eval_rows / batch_size), 1)}
    return {key: max(round(value * scale), min(value, least.get(key, 0))) for key, value in lengths.items()}
