"""Studies: this project's own comparisons. A study is a folder of `results/` with a `study.yaml`, and no Python."""

from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat, NonNegativeInt

from adalora.errors import UserError
from adalora.files.reading import read_yaml
from adalora.paths import RESULTS

FILE = "study.yaml"
Choices = Annotated[list[str], Field(min_length=1)]  # a choice can have several options, separated by spaces


class StudyTask(BaseModel, extra="forbid"):
    """A task of a study."""

    title: str
    constant: FiniteFloat | None = None  # score of a constant prediction, in percent


class Grid(BaseModel, extra="forbid"):
    """A comparison: every combination of each part's choices, with every seed."""

    records: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]  # a folder beside the file
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    parts: Annotated[list[Annotated[list[Choices], Field(min_length=1)]], Field(min_length=1)]

    def cells(self) -> list[list[str]]:
        """The options of each cell without its seed, in the file's order."""
        return [" ".join(choice).split() for part in self.parts for choice in product(*part)]


class Study(BaseModel, extra="forbid"):
    """The content of `study.yaml`, and its folder."""

    tasks: dict[str, StudyTask]
    grids: dict[str, Grid]
    folder: Path = Path()

    @property
    def constants(self) -> dict[str, float]:
        """The score of a constant prediction, by task."""
        return {name: task.constant for name, task in self.tasks.items() if task.constant is not None}

    def records(self, grid: str) -> Path:
        """The folder of a grid's records."""
        return self.folder / self.grids[grid].records


def read_study(folder: Path) -> Study:
    """Read the study in a folder. Raises `UserError` if its file can't be read or isn't valid."""
    study = read_yaml(folder / FILE, Study).model_copy(update={"folder": folder})
    if folder.resolve().name not in study.grids:
        raise UserError(f"{folder / FILE} needs a grid {folder.resolve().name}, for the runs that count")
    return study


def read_studies(root: Path = RESULTS) -> dict[str, Study]:
    """All studies by the names of their grids.

    Raises:
        UserError: a file can't be read or isn't valid, or two studies have a grid of one name.
    """
    found: dict[str, Study] = {}
    for path in sorted(root.glob(f"*/{FILE}")):
        study = read_study(path.parent)
        if twice := sorted(study.grids.keys() & found.keys()):
            raise UserError(f"{path} has a grid {twice[0]}, and {found[twice[0]].folder / FILE} too: rename one")
        found |= dict.fromkeys(study.grids, study)
    return found
