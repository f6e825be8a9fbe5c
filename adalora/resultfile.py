"""What result.json holds, written and read back. Imports no torch."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
)

from adalora.files import sha256, write_json
from adalora.reading import Damaged, holds, read_json, sealed

SCHEMA = 4
UNCOUNTED = (
    "epochs", "max_steps", "log_steps", "checkpoint_minutes", "checkpoint_steps", "activation_checkpointing",
)  # fmt: skip
"""Options of `training` that change no number: T says it all."""
NAME, ADAPTER = "result.json", "adapter/adapter.safetensors"  # in a run's folder
RECORDS = "*-seed*-*.json"  # small records of runs, whose folders may be gone: <task>-<method>-seed<seed>-<key>.json
MACHINE = (
    "data_root", "run_root", "cache_dir", "device", "tracking", "task.data_dir", "task.train_file", "task.eval_file",
    "model.path",
)  # fmt: skip
"""Options of a machine: they change no number."""


class ModelPart(BaseModel):
    """What `model` holds at least."""

    name: str
    title: str
    comparable: bool
    origin: str
    digest: str
    files: list[str] = []  # the weights


class TaskPart(BaseModel):
    """What `task` holds at least."""

    name: str
    version: int
    origin: str
    subset: bool | None
    digest: str
    rows: dict[str, NonNegativeInt]
    train_split: str
    headline: str


class MethodPart(BaseModel):
    """What `method` holds at least."""

    name: str


class BudgetPart(BaseModel):
    """What `budget` holds at least."""

    name: str
    params: NonNegativeInt | None


class RecipePart(BaseModel):
    """What `recipe` holds at least."""

    protocol: str | None
    source: str | None
    total_steps: PositiveInt | None
    lengths: dict[str, NonNegativeInt]
    values: dict[str, dict[str, Any]]


class ParametersPart(BaseModel):
    """What `parameters` holds at least."""

    kept: NonNegativeInt


class TrainingPart(BaseModel):
    """What `training` holds at least."""

    epochs: Annotated[FiniteFloat, Field(gt=0)]
    max_steps: PositiveInt | None
    total_steps: PositiveInt


def fractions(scores: dict[str, float]) -> dict[str, float]:
    """Scores as they are. Raises `ValueError` for one that is no fraction; losses and thresholds of logits need not."""
    for name, value in scores.items():
        unbounded = name == "loss" or name.endswith("_threshold")
        if not unbounded and not -1 <= value <= 1:
            raise ValueError(f"{name} is {value!r}, not a fraction")
    return scores


Scores = Annotated[dict[str, FiniteFloat], AfterValidator(fractions)]
Part = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One finished run. Metrics are fractions; `best` is by the headline metric, earliest first."""

    schema: int
    key: str
    cell: str  # the options that asked for it (adalora/cell.py)
    model: Annotated[Part, holds(ModelPart)]
    task: Annotated[Part, holds(TaskPart)]
    method: Annotated[Part, holds(MethodPart)]  # the resolved options
    budget: Annotated[Part, holds(BudgetPart)]
    recipe: Annotated[Part, holds(RecipePart)]
    seed: NonNegativeInt
    precision: str
    last: Scores
    last_step: NonNegativeInt
    best: Scores
    best_step: NonNegativeInt
    parameters: Annotated[Part, holds(ParametersPart)]  # peak, kept, head, total (as trained)
    ranks: dict[str, NonNegativeInt]  # realised, by module
    seconds: Annotated[FiniteFloat, Field(ge=0)]  # training and evaluation, over all sessions
    peak_memory_mb: NonNegativeInt  # of the last session: process (CPU) or allocator (GPU)
    training: Annotated[Part, holds(TrainingPart)]
    command: list[str]
    versions: dict[str, str]
    commit: str | None  # with `-dirty` where the tree had changes
    hardware: Part
    adapter: str = ""  # sha256 of `ADAPTER`
    evaluations: list[dict[str, FiniteFloat]] = field(default_factory=list)  # in a record: `step`, `eval/<metric>`

    def __post_init__(self) -> None:
        for step in ("last", "best"):
            if self.task.get("headline") not in getattr(self, step):
                raise ValueError(f"{step} has no {self.task.get('headline')}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def write_result(folder: Path, result: Result) -> Result:
    """Write result.json into a run's folder, with checksums of the adapter there and of itself; returns what it says.

    Raises:
        UserError: it can't be written.
    """
    result = replace(result, adapter=sha256(folder / ADAPTER))
    write_json(folder / NAME, sealed(result.as_dict()))
    return result


def portable(command: list[str]) -> list[str]:
    """A run's command without the options of the machine that it ran on."""
    return [text for text in command if text.split("=")[0].lstrip("+~") not in MACHINE]


def read_result(place: Path) -> Result:
    """The result of a run, from its folder or its record.

    Raises:
        Damaged: there is none, it has another schema, or it isn't as it was written.
    """
    path, remedy = (place if place.suffix == ".json" else place / NAME), "run it again"
    schema = read_json(path, dict[str, Any], remedy).get("schema")
    if schema != SCHEMA:
        of = f"of result schema {schema}" if isinstance(schema, int) else "not a result of this suite"
        raise Damaged(path, f"{of}, this suite reads {SCHEMA}", remedy)
    return read_json(path, Result, remedy)


def read_finished(folder: Path) -> Result:
    """`read_result`, and the adapter must be the one that the result was written with. Raises `Damaged`."""
    result, adapter = read_result(folder), folder / ADAPTER
    if not adapter.is_file():
        raise Damaged(adapter, "not a file", "run it again", missing=not adapter.exists())
    if sha256(adapter) != result.adapter:
        raise Damaged(adapter, "its checksum differs", "run it again")
    return result
