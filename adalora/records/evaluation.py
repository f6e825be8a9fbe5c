"""Records of evaluations without training, which `scripts.evaluate --record` keeps in a study's folder."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from adalora.files.reading import Damaged, holds, read_json
from adalora.records.result import Metrics, Section, TaskPart

FOLDER = "evaluations"


class Evaluation(BaseModel, extra="allow"):
    """What a page needs of one."""

    run: str | None  # key of the run
    adapter: str | None  # the run's method
    task: Annotated[Section, holds(TaskPart)]
    scores: Metrics
    commit: str | None

    @property
    def score(self) -> float:
        """The headline metric, whose name has the split's where the task has several."""
        return self.scores[self.task["headline"]]


def read_evaluations(folder: Path) -> tuple[list[Evaluation], list[str]]:
    """The evaluations in a study's folder, by file name, and a line for each that is invalid."""
    found, faults = [], []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            found.append(read_json(path, Evaluation, "restore it, or remove it and evaluate again"))
        except Damaged as error:
            faults.append(f"skipped {path.name}: {error.reason}")
    return found, faults
