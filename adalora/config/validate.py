"""From the composed tree to checked dataclasses, before anything is loaded."""

from typing import cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adalora.config.schema import Config
from adalora.errors import UserError


def validated(tree: DictConfig) -> Config:
    """The tree as dataclasses, every value checked by its `__post_init__`.

    Raises:
        UserError: a value is of the wrong type, missing or out of range.
    """
    try:
        return cast(Config, OmegaConf.to_object(tree))
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}") from error
