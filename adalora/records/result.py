"""The content of result.json: write and read it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
)

from adalora.files.reading import Damaged, holds, read_json, sealed
from adalora.files.writing import sha256, write_json
from adalora.options import key_of

SCHEMA = 5
UNCOUNTED = (
    "epochs", "max_steps", "log_steps", "checkpoint_minutes", "checkpoint_steps", "activation_checkpointing",
)  # fmt: skip
"""Options of `training` that don't change the numbers, given T."""
NAME = "result.json"  # in a run folder
ADAPTER, LOGS = ("adapter/adapter.safetensors", "adapter/adapter.json"), ("metrics.jsonl", "ranks.jsonl")
"""Files of a run folder whose checksums a result has."""
RECORDS = "*-seed*-*.json"  # records, which may outlive the run folders: <task>-<method>-seed<seed>-<key>.json
MACHINE = (
    "data_root", "run_root", "cache_dir", "device", "tracking", "task.data_dir", "task.train_file", "task.eval_file",
    "model.path", "--config-dir",
)  # fmt: skip
"""Options that depend on the machine and don't change the numbers."""


class ModelPart(BaseModel):
    """Required keys of `model`."""

    name: str
    title: str
    comparable: bool
    origin: str
    digest: str
    files: list[str] = []  # the weights


class TaskPart(BaseModel):
    """Required keys of `task`."""

    name: str
    version: int
    origin: str
    subset: bool | None
    digest: str
    rows: dict[str, NonNegativeInt]
    train_split: str
    headline: str
    notes: list[str]  # what was left out or cut


class MethodPart(BaseModel):
    """Required keys of `method`."""

    name: str


class BudgetPart(BaseModel):
    """Required keys of `budget`."""

    name: str
    params: NonNegativeInt | None


class RecipePart(BaseModel):
    """Required keys of `recipe`."""

    protocol: str | None
    source: str | None


class ParametersPart(BaseModel):
    """Required keys of `parameters`."""

    kept: NonNegativeInt


class TrainingPart(BaseModel):
    """Required keys of `training`."""

    epochs: Annotated[FiniteFloat, Field(gt=0)]
    max_steps: PositiveInt | None
    total_steps: PositiveInt


Origin = Literal["published", "ours", "budget", "default", "user"]


@dataclass(frozen=True)
class Option:
    """A value that changes the numbers, and where it comes from (adalora/planning/origins.py)."""

    value: Any
    origin: Origin
    reference: Any  # what the method has as published; None where only ours exists
    scaled: bool | None = None  # of a length in steps: whether it was scaled to this T
    fixed: bool = False  # whether the method's form fixes it

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without what doesn't apply."""
        empty = {"scaled": None, "fixed": False}
        return {key: value for key, value in asdict(self).items() if key not in empty or value != empty[key]}


def fractions(scores: dict[str, float]) -> dict[str, float]:
    """Check that scores are fractions, except losses, logit thresholds and bits per byte. Raises `ValueError`."""
    for name, value in scores.items():
        unbounded = name == "loss" or "_threshold" in name or name.startswith("bits_per_byte")
        if not unbounded and not -1 <= value <= 1:
            raise ValueError(f"{name} is {value!r}, not a fraction")
    return scores


Metrics = Annotated[dict[str, FiniteFloat], AfterValidator(fractions)]
Section = dict[str, Any]
RowNumbers = dict[str, list[FiniteFloat]]  # a number for each evaluated row, by name


@dataclass(frozen=True)
class Result:
    """A finished run. Metrics are fractions; `best` is the first evaluation with the best headline metric."""

    schema: int
    key: str
    cell: str  # hash of the requested options (adalora/planning/identity.py)
    model: Annotated[Section, holds(ModelPart)]
    task: Annotated[Section, holds(TaskPart)]
    method: Annotated[Section, holds(MethodPart)]  # the resolved options
    budget: Annotated[Section, holds(BudgetPart)]
    recipe: Annotated[Section, holds(RecipePart)]
    options: dict[str, Option]  # by key, such as method.alpha
    seed: NonNegativeInt
    precision: str
    last: Metrics
    last_step: NonNegativeInt
    best: Metrics
    best_step: NonNegativeInt
    parameters: Annotated[Section, holds(ParametersPart)]  # peak, kept, head, modules, total (as trained)
    ranks: dict[str, NonNegativeInt]  # realised rank by module
    seconds: Annotated[FiniteFloat, Field(ge=0)]  # training and evaluation, summed over sessions
    peak_memory_mb: NonNegativeInt  # in the last session: of the process (CPU) or the allocator (GPU)
    training: Annotated[Section, holds(TrainingPart)]
    command: list[str]
    versions: dict[str, str]
    commit: str | None  # with `-dirty` if the tree had changes
    hardware: Section
    files: dict[str, str] = field(default_factory=dict)  # sha256 of `ADAPTER` and `LOGS`
    evaluations: list[dict[str, FiniteFloat]] = field(default_factory=list)  # in a record: `step`, `eval/<metric>`
    rows: dict[str, RowNumbers] = field(default_factory=dict)  # in a record: of the last step, by split

    def __post_init__(self) -> None:
        for step in ("last", "best"):
            if self.task.get("headline") not in getattr(self, step):
                raise ValueError(f"{step} has no {self.task.get('headline')}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"options": {key: option.as_dict() for key, option in self.options.items()}}


def write_result(folder: Path, result: Result) -> Result:
    """Write result.json into a run folder, with checksums of the adapter, the logs and itself, and return the result.

    Raises:
        UserError: it can't be written.
    """
    names = [name for name in (*ADAPTER, *LOGS) if (folder / name).is_file()]
    result = replace(result, files={name: sha256(folder / name) for name in names})
    write_json(folder / NAME, sealed(result.as_dict()))
    return result


def portable(command: list[str]) -> list[str]:
    """Drop machine-dependent options from a run's command."""
    return [text for text in command if key_of(text) not in MACHINE]


def read_result(source: Path) -> Result:
    """Read a result from a run folder or a record.

    Raises:
        Damaged: it is missing, has another schema, or fails its checksum.
    """
    path, remedy = (source if source.suffix == ".json" else source / NAME), "run it again"
    schema = read_json(path, dict[str, Any], remedy).get("schema")
    if schema != SCHEMA:
        of = f"it has result schema {schema}" if isinstance(schema, int) else "it isn't a result of this suite"
        raise Damaged(path, f"{of}; this suite reads schema {SCHEMA}", remedy)
    return read_json(path, Result, remedy)


def read_finished(folder: Path) -> Result:
    """Read a result and verify the adapter's checksums. Raises `Damaged`."""
    result = read_result(folder)
    for fault in damaged(folder, result.files, ADAPTER):
        raise fault
    return result


def damaged(folder: Path, files: Mapping[str, str], names: Iterable[str]) -> Iterator[Damaged]:
    """The files of a run that aren't what they were when it ended, by the checksums in its result."""
    for name in (name for name in names if name in files):
        path, remedy = folder / name, "restore it, or remove the folder and run it again"
        if not path.is_file():
            yield Damaged(path, "not a file", remedy, missing=not path.exists())
        elif sha256(path) != files[name]:
            yield Damaged(path, "its checksum differs", remedy)
