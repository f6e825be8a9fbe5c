"""Module paths, such as `deberta.encoder.layer.3.output.dense`, and the patterns of `model.targets`, in which {layer}
stands for the layer's number."""

from collections.abc import Collection, Iterable, Mapping

from adalora.errors import UserError


def layer_of(path: str) -> tuple[str, int]:
    """A target's stack of layers, and its layer in that stack, from 0.

    The first number in a module path is its layer's: `deberta.encoder.layer.3.output.dense` gives
    ("deberta.encoder.layer", 3), and BART's encoder and decoder are two stacks.

    Raises:
        UserError: the path has no number.
    """
    parts = path.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[:i]), int(part)
    raise UserError(f"model.targets names {path}, which isn't in a numbered layer, as this method requires")


def matches(path: str, pattern: str) -> bool:
    """Whether a module path matches `pattern` for some {layer}."""
    head, _, tail = pattern.partition("{layer}")
    middle = path.removeprefix(head).removesuffix(tail)
    return path.startswith(head) and path.endswith(tail) and middle.isdecimal()


def target_grid(targets: Mapping[str, str], paths: Iterable[str]) -> tuple[list[str], list[list[str | None]]]:
    """Module paths as a grid: the short names of `model.targets` as columns, one row per layer."""
    known = set(paths)
    rows: list[list[str | None]] = []
    while True:
        row = [path.format(layer=len(rows)) for path in targets.values()]
        if not known.intersection(row):
            return list(targets), rows
        rows.append([path if path in known else None for path in row])


def target_paths(
    targets: Mapping[str, str], title: str, modules: Collection[str], linear: Collection[str]
) -> list[str]:
    """The modules that `model.targets` names, layer by layer.

    Args:
        targets: short name -> pattern.
        title: the backbone, for messages.
        modules: paths of its modules.
        linear: those of its linear layers.

    Raises:
        UserError: a module is missing or not a linear layer, or a layer lacks one.
    """
    _, rows = target_grid(targets, modules)
    found = [path for row in rows for path in row if path is not None]
    for path in found:
        if path not in linear:
            raise UserError(f"model.targets names {path}, which isn't a linear layer")
    for column, (name, pattern) in enumerate(targets.items()):
        layers = [i for i, row in enumerate(rows) if row[column] is not None]
        if not layers or layers != list(range(len(layers))):
            raise UserError(
                f"model.targets.{name}={pattern} isn't in every layer of {title}: give the path of this architecture"
            )
    return found
