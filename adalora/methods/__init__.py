"""The methods: one file each, the maths and nothing else.

`create(config)` gives the method that `config.name` names: the class `METHOD` of the module of
that name.
"""

from importlib import import_module

from adalora.config.methods import MethodConfig
from adalora.methods.protocol import Method


def create(config: MethodConfig) -> Method:
    """The method for a configuration."""
    return import_module(f"adalora.methods.{config.name}").METHOD(config)
