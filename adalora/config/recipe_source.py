"""Provide the rows of `conf/recipe/tables` to Hydra as configs, created on demand.

Hydra's ConfigStore would copy them all in every composition, which takes 2.3 times as long.
"""

from functools import cache
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from adalora.config.recipes import GROUPS, nodes


@cache
def rows() -> dict[str, dict[str, Any]]:
    """Every row's node, by `<group>/<name>`."""
    return {f"{group}/{name}": node for group, name, node in nodes()}


class RecipeSource(ConfigSource):
    """`recipes://`: a config for each row."""

    @staticmethod
    def scheme() -> str:
        return "recipes"

    def load_config(self, config_path: str) -> ConfigResult:
        node = rows()[config_path.removesuffix(".yaml")]
        return ConfigResult(
            provider=self.provider, path=f"{self.scheme()}://", config=OmegaConf.create(node), header={"package": None}
        )

    def is_group(self, config_path: str) -> bool:
        return config_path in ("", *GROUPS)

    def is_config(self, config_path: str) -> bool:
        return config_path.rpartition("/")[0] in GROUPS and config_path.removesuffix(".yaml") in rows()

    def available(self) -> bool:
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List nothing: users don't choose from these groups."""
        return []


class RecipeSearchPath(SearchPathPlugin):
    """Add `recipes://` to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="adalora", path="recipes://")
