"""Select the adapted modules of a backbone by explicit names."""

from torch import nn

from adalora.backbones.options import Model
from adalora.errors import UserError


def target_modules(model: nn.Module, config: Model) -> dict[str, nn.Linear]:
    """The linear layers named in `config.targets`, as module path -> module, layer by layer.

    The paper adapts six matrices per layer: query, key, value, the two FFN matrices, and (in the scripts, but not in
    Section 4) the attention output. That makes 72 on DeBERTaV3-base (D-targets, D-head).

    Raises:
        UserError: a path is missing or not a linear layer, or a layer lacks one.
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
                raise UserError(f"model.targets names {path}, which is a {type(module).__name__}, not a linear layer")
            targets[path] = module
        layer += 1
    for name, path in config.targets.items():
        layers = [i for i in range(layer) if path.format(layer=i) in targets]
        if not layers or layers != list(range(len(layers))):
            raise UserError(
                f"model.targets.{name}={path} isn't in every layer of {config.title} ({type(model).__name__}): give "
                "the path of this architecture"
            )
    return targets
