"""Register the dataclasses with Hydra, so that every value in `conf/` is typed."""

from functools import cache

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from adalora.backbones.options import Model
from adalora.config.recipe_source import RecipeSearchPath, RecipeSource
from adalora.config.schema import Budget, Config, Recipe
from adalora.methods.discovery import METHODS
from adalora.paths import CONF
from tasks.discovery import TASKS


@cache  # once: a sweep composes hundreds of settings in one process
def register() -> None:
    """Register the schemas (`schema` for the tree, `_schema`, `_<method>` or `_<type of task>` in each group), methods
    without a file in conf/method, and the rows of `conf/recipe/tables`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, node in {"model": Model, "budget": Budget, "recipe": Recipe}.items():
        store.store(group=group, name="_schema", node=node)
    for name, config in METHODS.items():
        options = OmegaConf.structured(config)
        for part in options.values():
            if isinstance(part, DictConfig):  # not a struct, so that method.config.r=4 needs no `+`
                OmegaConf.set_struct(part, False)
        store.store(group="method", name=f"_{name}", node=options)
        if not (CONF / "method" / f"{name}.yaml").exists():  # a user's method
            own = {"method": options, "training": {"lr": config.default_lr}}
            store.store(group="method", name=name, node=own, package="_global_")
    for name, task in TASKS.items():
        store.store(group="task", name=f"_{name}", node=task)
    plugins = Plugins.instance()
    plugins.register(RecipeSource)
    plugins.register(RecipeSearchPath)
