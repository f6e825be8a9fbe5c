"""Select the adapted maps of a backbone by explicit names."""

from torch import nn

from adalora.backbones.options import Model
from adalora.errors import UserError


def target_modules(model: nn.Module, config: Model) -> dict[str, nn.Linear]:
    """The linear maps named in `config.targets`, as module path -> module, layer by layer.

    The paper adapts six matrices per layer: query, key, value, the two FFN matrices, and (in the scripts, but not in
    Section 4) the attention output. That makes 72 on DeBERTaV3-base (D-targets, D-head).

    Raises:
        UserError: a path is missing or not a linear map, or there aren't `n_targets` of them.
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
    # a local folder may hold a smaller or larger model: then every layer must be complete
    expected = layer * len(config.targets) if config.path else config.n_targets
    if not targets or len(targets) != expected:
        raise UserError(
            f"model.targets matches {len(targets)} of {expected} linear maps in {config.title} "
            f"({type(model).__name__}): give the paths of this architecture in model.targets"
        )
    return targets
