"""A run's variant: the options in which it differs from its method as published, read off its record alone."""

import json
from collections.abc import Mapping
from typing import Any

from adalora.options import written

Run = dict[str, Any]  # a result.json
Variant = frozenset[tuple[str, Any]]
"""Options by key, such as `method.alpha`; lists are tuples."""
LENGTH = ("training.max_steps", "training.epochs")
ALL_OF_NONE = ("method.modules", "method.init_from")  # options whose None is a choice, so that any other is a variant
RANK = "{rank}"  # in a variant: LoRA's rank at the budget


def variant(options: Mapping[str, Any], rank: str | None = None) -> Variant:
    """A variant from options of the method (`importance`) or any others (`training.lr`), with `RANK` filled in."""
    values = {key if "." in key else f"method.{key}": value for key, value in options.items()}
    values = {key: int(rank) if value == RANK and rank else value for key, value in values.items()}
    return frozenset((key, hashable(value)) for key, value in values.items())


def hashable(value: Any) -> Any:
    """The value in a hashable form: a list as a tuple, a mapping as JSON."""
    if isinstance(value, dict):
        return json.dumps(value)
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def describe(options: Variant) -> str:
    """A variant as tables print it: the training's length first, then by option."""
    ordered = sorted(options, key=lambda item: (item[0] not in LENGTH, item[0]))
    return ", ".join(f"{key.rpartition('.')[2]}={written(value)}" for key, value in ordered)


def variant_of(run: Run, length: bool = True) -> Variant:
    """How a run differs from its method as published, from its record alone.

    A variant consists of a length other than the recipe's and every option whose value isn't its reference. Options
    without a reference, for which only this suite has a value, don't count; for `ALL_OF_NONE`, None is a reference.
    AdaLoRA with equal initial and target ranks is a variant, too: it doesn't allocate (SVD-LoRA in Table 5).

    Args:
        run: a result.
        length: whether to include a length other than the recipe's.
    """
    options = run["options"]
    found = {
        key: entry["value"]
        for key, entry in options.items()
        if entry["value"] != entry["reference"] and (entry["reference"] is not None or key in ALL_OF_NONE)
        if key != "training.total_steps"
    }
    start, end = (options.get(f"method.{name}_rank", {}).get("value") for name in ("init", "target"))
    if start is not None and start == end:
        found |= {"method.init_rank": start, "method.target_rank": end}
    return variant(found) | (length_of(run) if length else variant({}))


def length_of(run: Run) -> Variant:
    """The length of the training; empty if it is the recipe's."""
    if run["options"]["training.total_steps"]["origin"] in ("published", "ours"):
        return variant({})
    name = "max_steps" if run["training"]["max_steps"] else "epochs"
    return variant({f"training.{name}": run["training"][name]})
