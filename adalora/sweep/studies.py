"""Studies: this project's own comparisons, defined in `results/pocket/study.yaml` by grids of options and seeds.

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
Choices = Annotated[list[str], Field(min_length=1)]  # a choice can have several options, separated by spaces


class Study(BaseModel, extra="forbid"):
    """A comparison: every combination of each grid's choices, with every seed."""

    records: Annotated[str, Field(pattern=r"^[a-z-]+$")]  # a folder beside the file
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    grids: Annotated[list[Annotated[list[Choices], Field(min_length=1)]], Field(min_length=1)]

    def settings(self, name: str) -> list[Setting]:
        """The study's cells without seeds, in the file's order."""
        combinations = [choice for grid in self.grids for choice in product(*grid)]
        return [Setting(name, tuple(" ".join(choice).split())) for choice in combinations]


def read_studies(folder: Path = POCKET) -> dict[str, Study]:
    """Read all studies, by name. Raises `UserError` if the file can't be read or isn't valid."""
    path = folder / FILE
    try:
        return TypeAdapter(dict[str, Study]).validate_python(OmegaConf.to_container(OmegaConf.load(path)))
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): it belongs to the repository") from error
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise UserError(f"{path} can't be read as studies: {reason(error)}") from error


def read_study(name: str, folder: Path = POCKET) -> Study:
    """Read one study. Raises `UserError` if the file has none of that name, can't be read or isn't valid."""
    studies = read_studies(folder)
    if name not in studies:
        raise UserError(f"{folder / FILE} has no study {name}, which it needs: restore the file")
    return studies[name]
