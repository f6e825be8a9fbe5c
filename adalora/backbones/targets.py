"""Which maps of a backbone are adapted, by explicit name."""

from torch import nn

from adalora.backbones.options import Model
from adalora.errors import UserError


def target_modules(model: nn.Module, config: Model) -> dict[str, nn.Linear]:
    """The linear maps that `config.targets` names, as module path -> module, layer by layer.

    The paper adapts six matrices a layer: query, key, value, the two of the FFN, and (in its
    scripts, though not in Section 4) the attention output: 72 on DeBERTaV3-base (D-targets, D-head).

    Raises:
        UserError: a path is missing or not a linear map, or their number is not `n_targets`.
    """
    modules = dict(model.named_modules())
    targets: dict[str, nn.Linear] = {}
    layer = 0
    while True:
        paths = [path.format(layer=layer) for path in config.targets.values()]
        present = [path for path in paths if path in modules]
        if not present:
            break
        for path in present:
            module = modules[path]
            if not isinstance(module, nn.Linear):
                raise UserError(f"model.targets names {path}, which is a {type(module).__name__}, not a linear map")
            targets[path] = module
        layer += 1
    # a local folder may hold a smaller or larger sibling: then every layer must be complete
    expected = layer * len(config.targets) if config.path else config.n_targets
    if not targets or len(targets) != expected:
        raise UserError(
            f"model.targets matches {len(targets)} of {expected} linear maps in {config.title} "
            f"({type(model).__name__}): give the paths of this architecture in model.targets"
        )
    return targets
