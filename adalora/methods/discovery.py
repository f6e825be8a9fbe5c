"""Find the methods: every folder here, and packages registered as entry points.

A user's package registers an entry point in the group `adalora.methods`: the method's name, and the package with
`options.py` and `layer.py`. A broken one is skipped with a warning.

    [project.entry-points."adalora.methods"]
    gated_lora = "gated_lora"
"""

import logging
from dataclasses import is_dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from adalora.errors import UserError
from adalora.methods.options import MethodConfig
from adalora.options import require

if TYPE_CHECKING:
    from adalora.methods.protocol import Method

GROUP = "adalora.methods"


def find_methods() -> dict[str, type[MethodConfig]]:
    """The options class of every method, by name."""
    package = __name__.rpartition(".")[0]
    names = [module.name for module in iter_modules([str(Path(__file__).parent)]) if module.ispkg]
    found = {name: options_of(name, f"{package}.{name}") for name in names}
    for entry in entry_points(group=GROUP):
        try:
            require(entry.name not in names, "its name is taken by a method of the suite")
            found[entry.name] = options_of(entry.name, entry.value)
        except Exception as error:  # noqa: BLE001 - a stranger's package may raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            logging.getLogger(__name__).warning("skipped method %s: %s", entry.name, reason)
    return found


def options_of(name: str, package: str) -> type[MethodConfig]:
    """Load the options class of method `name` from `package`.

    Raises:
        UserError: something is missing; the message says what to add.
    """
    module = f"{package}.options"
    require(find_spec(module) is not None, f"module {module} is missing: it should define the method's options")
    options: Any = getattr(import_module(module), "OPTIONS", None)
    good = isinstance(options, type) and issubclass(options, MethodConfig) and is_dataclass(options)
    if not good:
        raise UserError(f"{module} has no OPTIONS, the method's dataclass, a subclass of MethodConfig")
    require(
        options.name == name, f'{module}: {options.__name__}.name is "{options.name}", but the method is called {name}'
    )
    require(
        find_spec(f"{package}.layer") is not None, f"module {package}.layer is missing: it should define the method"
    )
    return options


def create(config: MethodConfig) -> "Method":
    """The method that belongs to these options: `METHOD` in the `layer.py` next to them.

    Raises:
        UserError: there is none, or an own package's module can't be imported.
    """
    layer = f"{type(config).__module__.rpartition('.')[0]}.layer"
    try:
        method = getattr(import_module(layer), "METHOD", None)
    except Exception as error:
        if layer.startswith("adalora."):
            raise
        raise UserError(f"{layer} can't be imported ({type(error).__name__}: {error}): correct it") from error
    if method is None:
        raise UserError(f"{layer} has no METHOD, the class of the method {config.name}")
    return method(config)


METHODS = find_methods()
