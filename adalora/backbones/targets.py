"""The adapted modules of a backbone."""

from torch import nn

from adalora.backbones.options import Model
from adalora.module_paths import target_paths


def target_modules(built: nn.Module, model: Model) -> dict[str, nn.Linear]:
    """The linear layers named in `model.targets`, as module path -> module, layer by layer.

    The paper adapts six matrices per layer: query, key, value, the two FFN matrices, and (in the scripts, but not in
    Section 4) the attention output. That makes 72 on DeBERTaV3-base (D-targets, D-head).

    Raises:
        UserError: a path is missing or not a linear layer, or a layer lacks one.
    """
    modules = dict(built.named_modules())
    linear = {path: module for path, module in modules.items() if isinstance(module, nn.Linear)}
    return {path: linear[path] for path in target_paths(model.targets, model.title, modules, linear)}
