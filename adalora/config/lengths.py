"""Lengths that follow the training: a recipe's steps, scaled when T is not the recipe's T."""

from collections.abc import Collection
from dataclasses import replace

from adalora.config.schema import Config

TRAINING_LENGTHS = ("warmup_steps", "eval_steps")
AT_LEAST_ONE = ("eval_steps", "mask_interval")


def fit_lengths(config: Config, total_steps: int, fixed: Collection[str]) -> tuple[Config, list[str]]:
    """Scale every length by T / `training.planned_steps` and fill in what the method leaves open.

    Args:
        config: the configuration as composed.
        total_steps: T, the optimizer steps this run will take.
        fixed: dotted keys that the user set; these stay as they are.

    Returns:
        The configuration in force, and one line for each length that changed.

    Raises:
        UserError: the lengths don't fit into T.
    """
    planned = config.training.planned_steps
    scale = total_steps / planned if planned else 1.0
    notes: list[str] = []

    def scaled(section: str, node: object, keys: tuple[str, ...]) -> dict[str, int]:
        changed = {}
        for key in keys:
            value = getattr(node, key)
            if value is None or f"{section}.{key}" in fixed:
                continue
            fitted = max(round(value * scale), 1 if key in AT_LEAST_ONE else 0)
            if fitted != value:
                changed[key] = fitted
                notes.append(f"{section}.{key} {value} -> {fitted}")
        return changed

    training = scaled("training", config.training, TRAINING_LENGTHS)
    # a method's own steps belong to planned_steps only where a recipe set them
    method = scaled("method", config.method, config.method.lengths) if config.recipe.source else {}
    return replace(
        config,
        training=replace(config.training, **training),
        method=replace(config.method, **method).planned(total_steps),
    ), notes
