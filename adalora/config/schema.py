"""The types of the configuration tree; values and comments are in `conf/`."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from omegaconf import MISSING

from adalora.backbones.options import Model
from adalora.errors import UserError
from adalora.methods.discovery import METHODS
from adalora.methods.options import MethodConfig, PlacedConfig
from adalora.options import (
    between,
    check_options,
    folder_name,
    instead,
    not_negative,
    one_of,
    option,
    positive,
    require,
    share,
)
from tasks.options import Task

TRAINING_LENGTHS = ("warmup_steps", "eval_steps")


@dataclass
class Budget:
    """A number of adapter parameters without the head: `params`, or the count of mean rank `rank` over all linear
    layers of the backbone (converted to `params` in `adalora/planning/budget.py`)."""

    name: str = option(MISSING, folder_name)
    params: int | None = option(None, positive)
    rank: float | None = option(None, positive)
    settings: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # model -> method -> its setting

    def __post_init__(self) -> None:
        check_options(self, "budget")
        require(
            self.params is not None or self.rank is not None,
            "budget=custom needs budget.params=N, the number of adapter parameters (or budget.rank=R, a mean rank)",
        )
        require(
            self.params is None or self.rank is None,
            f"budget.params={self.params} and budget.rank={self.rank} both set the size: set the other to null",
        )


@dataclass
class Recipe:
    """The published hyperparameters that are used, and their sources.

    `lengths` are optimizer steps at T = `total_steps`, by option name, for options of training and method that are null
    (lengths.py). Without `total_steps` they hold at any T. `values` records what the tables in conf/recipe/tables say,
    by option key, separately for `protocol` and `source`, and `published` whether a value is published for the method,
    task and backbone; they don't set anything.
    """

    name: str = MISSING
    total_steps: int | None = option(MISSING, positive)
    lengths: dict[str, int] = MISSING
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: dict[str, bool] = field(default_factory=dict)
    protocol: str | None = None  # set by conf/recipe/tables/protocol-<model>.yaml
    source: str | None = None  # set by conf/recipe/tables/<recipe>-<model>.yaml

    def __post_init__(self) -> None:
        check_options(self, "recipe")


def whole_or_auto(value: Any) -> str | None:
    """A positive int, or auto."""
    good = value == "auto" or (type(value) is int and value > 0)
    return None if good else "must be a positive whole number, or auto (what fits the device's memory)"


@dataclass
class Training:
    """Training options. Lengths are in optimizer steps; null: from the recipe."""

    epochs: float = option(MISSING, positive)
    max_steps: int | None = option(MISSING, positive)
    batch_size: int = option(MISSING, positive)
    micro_batches: Any = option(MISSING, whole_or_auto)  # Any: OmegaConf can't merge unions
    activation_checkpointing: bool = MISSING
    eval_batch_size: Any = option(MISSING, whole_or_auto)
    lr: float = option(MISSING, positive)
    schedule: str = option("linear", one_of("linear", "cosine"))
    warmup_steps: int | None = option(MISSING, not_negative)
    weight_decay: float = option(MISSING, not_negative)
    max_grad_norm: float | None = option(MISSING, positive)
    adam_beta1: float = option(MISSING, share)
    adam_beta2: float = option(MISSING, share)
    adam_eps: float = option(MISSING, positive)
    eval_steps: int | None = option(MISSING, positive)
    log_steps: int = option(MISSING, positive)
    checkpoint_minutes: float | None = option(MISSING, positive)
    checkpoint_steps: int | None = option(MISSING, positive)

    def __post_init__(self) -> None:
        check_options(self, "training")
        require(
            isinstance(self.micro_batches, str) or self.batch_size % self.micro_batches == 0,
            f"training.micro_batches={self.micro_batches} must divide training.batch_size={self.batch_size}",
        )


@dataclass
class PlannedTraining(Training):
    """Training options with T = `total_steps` and all lengths filled in."""

    warmup_steps: int = MISSING
    eval_steps: int = MISSING
    total_steps: int = MISSING


@dataclass
class WandbOptions:
    """Project, names and tags of a run in wandb. For None, wandb's environment variable holds, or else our default
    (`adalora/progress/tracking.py`)."""

    project: str | None = MISSING
    entity: str | None = MISSING
    name: str | None = MISSING
    group: str | None = MISSING
    tags: list[str] = MISSING
    notes: str | None = MISSING
    samples: int | None = option(None, not_negative)

    def __post_init__(self) -> None:
        check_options(self, "wandb")


@dataclass
class Config:
    """The whole tree as the user chose it, partly unresolved."""

    model: Model = MISSING
    task: Task = MISSING
    method: MethodConfig = MISSING
    budget: Budget = MISSING
    recipe: Recipe = MISSING
    training: Training = MISSING
    seed: int = option(MISSING, between(0, 2**31))
    precision: str = option(MISSING, one_of("fp32", "tf32", "bf16", "fp16"))
    fast: bool = MISSING
    device: str = option(MISSING, one_of("auto", "cpu", "cuda"))
    data_root: str | None = MISSING
    run_root: str = MISSING
    cache_dir: str = MISSING
    tracking: str = option(MISSING, one_of("wandb", "none"))
    wandb: WandbOptions = MISSING
    dry_run: bool = MISSING
    debug: bool = MISSING

    def __post_init__(self) -> None:
        check_options(self, "")
        name = self.method.name
        require(
            METHODS.get(name) is type(self.method),
            f"method.name={name} can't be set by hand: choose with method=..., allowed are {', '.join(METHODS)}",
        )
        _ = self.backbone  # raises if there is none
        require(
            self.model.dtype == "fp32" or self.precision == "bf16",
            f"model.dtype=bf16 with precision={self.precision}: weights in bf16 compute in bf16, set precision=bf16",
        )
        require(
            self.device != "cpu" or self.precision not in ("fp16", "tf32"),
            f"precision={self.precision} needs a GPU: use precision=bf16 or fp32",
        )
        allowed = (*TRAINING_LENGTHS, *self.method.lengths)
        for key, value in self.recipe.lengths.items():
            require(key in allowed, f"recipe.lengths.{key}: {instead(key, allowed, '')}")
            require(value >= 0, f"recipe.lengths.{key}={value}: must not be negative")

    @property
    def backbone(self) -> Model:
        """The model options with the task's head, and as targets what the method adapts. Raises `UserError`."""
        model, served = self.model, self.task.models.get(self.model.model_type)
        if served is None:
            raise UserError(
                f"task={self.task.name} is {self.task.type}, which {model.title} has no head for: choose a model of "
                f"type {' or '.join(self.task.models)}, or another task"
            )
        task = self.task
        model = replace(
            model, architecture=served.architecture, head=list(served.head), train_modules=task.train_modules
        )
        names = self.method.module_names(model.targets) if isinstance(self.method, PlacedConfig) else None
        return model if names is None else model.with_modules(names)


@dataclass(frozen=True)
class Resolved:
    """The resolved options of a run: those of `Config` that it needs, with nothing unresolved."""

    model: Model
    task: Task
    method: MethodConfig
    budget: Budget
    recipe: Recipe
    training: PlannedTraining
    seed: int
    precision: str
    fast: bool
    device: str
    run_root: str
    cache_dir: str
    tracking: str
    wandb: WandbOptions

    @classmethod
    def of(
        cls, config: Config, model: Model, method: MethodConfig, budget: Budget, training: PlannedTraining
    ) -> "Resolved":
        """Build it from `config` and the resolved parts."""
        resolved = {"model": model, "method": method, "budget": budget, "training": training}
        return cls(**({each.name: getattr(config, each.name) for each in fields(cls)} | resolved))
