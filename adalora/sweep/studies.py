"""This project's own comparisons, from `results/pocket/study.yaml`: grids of `train.py` options, and their seeds.

pocket:
  records: runs
  seeds: [1, 2, 3]
  grids:
    - - [experiment=pocket task=r8]
      - [method=adalora, method=lora]
"""

from itertools import product
from pathlib import Path
from typing import Annotated

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, NonNegativeInt, TypeAdapter, ValidationError
from yaml import YAMLError

from adalora.errors import UserError
from adalora.places import POCKET
from adalora.reading import reason
from adalora.sweep.published import Setting

FILE = "study.yaml"
Choices = Annotated[list[str], Field(min_length=1)]  # options, separated by spaces in one choice


class Study(BaseModel, extra="forbid"):
    """A comparison: every combination of each grid's choices, with every seed."""

    records: Annotated[str, Field(pattern=r"^[a-z-]+$")]  # a folder beside the file
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    grids: Annotated[list[Annotated[list[Choices], Field(min_length=1)]], Field(min_length=1)]

    def settings(self, name: str) -> list[Setting]:
        """The cells without their seeds, in the file's order, as the study's `name`."""
        combinations = [choice for grid in self.grids for choice in product(*grid)]
        return [Setting(name, tuple(" ".join(choice).split())) for choice in combinations]


def read_studies(folder: Path = POCKET) -> dict[str, Study]:
    """All studies by name. Raises `UserError`: the file can't be read, or isn't of this form."""
    path = folder / FILE
    try:
        return TypeAdapter(dict[str, Study]).validate_python(OmegaConf.to_container(OmegaConf.load(path)))
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): it belongs to the repository") from error
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise UserError(f"{path} can't be read as studies: {reason(error)}") from error
