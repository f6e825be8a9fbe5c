"""The configuration tree as types; values and comments are in `conf/`."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from omegaconf import MISSING

from adalora.config.methods import METHOD_CONFIGS, MethodConfig, PlacedConfig, nearest, require
from adalora.config.methods.base import check_name
from adalora.config.sources import Package
from adalora.config.tasks import Task

TRAINING_LENGTHS = ("warmup_steps", "eval_steps")


@dataclass
class Model:
    """A backbone: where its weights are, which maps are adapted, which part is the head."""

    name: str = MISSING
    title: str = MISSING  # how results name it
    model_type: str = MISSING  # transformers' name of the architecture
    comparable: bool = MISSING  # whether the paper's numbers apply
    hub: str | None = MISSING
    revision: str = MISSING
    path: str | None = MISSING
    package: Package | None = MISSING
    config: dict[str, Any] = MISSING  # the architecture's numbers, for plans without weights
    targets: dict[str, str] = MISSING  # short name -> module path with {layer}
    n_targets: int = MISSING
    heads: dict[str, list[str]] = MISSING  # kind of task -> modules that are trained and never counted
    kind: str = ""  # of the task at hand, and
    head: list[str] = field(default_factory=list)  # its head: `Config.backbone` has both
    pos_query_base_only: bool = MISSING
    attention: str = MISSING
    classifier_dropout: float = MISSING

    def __post_init__(self) -> None:
        check_name("model.name", self.name)
        require(
            bool(self.hub or self.package or self.path),
            "model.hub, model.package and model.path are all null: one of them must say where the weights are",
        )
        require(
            self.model_type in ("deberta-v2", "bart"),
            f"model.model_type={self.model_type}: allowed are deberta-v2, bart",
        )
        kinds = ("exact", "eager") if self.model_type == "deberta-v2" else ("eager", "sdpa")
        require(
            self.attention in kinds,
            f"model.attention={self.attention}: allowed for {self.model_type} are {', '.join(kinds)}",
        )
        require(
            0 <= self.classifier_dropout < 1,
            f"model.classifier_dropout={self.classifier_dropout}: must lie in [0, 1)",
        )

    def serving(self, task: Task) -> "Model":
        """This backbone with the head for `task`. Raises `UserError` where it has none."""
        require(
            task.kind in self.heads,
            f"task={task.name} is {task.kind}, {self.title} serves {', '.join(self.heads)} only: choose another model",
        )
        return replace(self, kind=task.kind, head=self.heads[task.kind])

    def narrowed(self, modules: list[str]) -> "Model":
        """This backbone with only these of its targets. Raises `UserError` for one that it hasn't."""
        for name in modules:
            require(
                name in self.targets,
                f"method.modules: {name} is no map of {self.title}, allowed are {', '.join(self.targets)}",
            )
        targets = {name: path for name, path in self.targets.items() if name in modules}
        return replace(self, targets=targets, n_targets=self.n_targets * len(targets) // len(self.targets))


@dataclass
class Budget:
    """A number of adapter parameters, head excluded: `params`, or what every linear map of the backbone
    comes to at the mean rank `rank` (budget.py turns the latter into the former)."""

    name: str = MISSING
    params: int | None = MISSING
    rank: float | None = None
    settings: dict[str, dict[str, dict[str, Any]]] = MISSING  # model -> method -> its setting

    def __post_init__(self) -> None:
        check_name("budget.name", self.name)
        require(
            self.params is not None or self.rank is not None,
            "budget=custom needs budget.params=N, the number of adapter parameters (or budget.rank=R, a mean rank)",
        )
        require(
            self.params is None or self.rank is None,
            f"budget.params={self.params} and budget.rank={self.rank} both set the size: set the other to null",
        )
        require(
            self.rank is None or 0 < self.rank < math.inf,
            f"budget.rank={self.rank}: must be positive and finite",
        )
        require(
            self.params is None or self.params > 0,
            f"budget.params={self.params}: must be positive",
        )


@dataclass
class Recipe:
    """Which published hyperparameters are used, and where the values in force come from.

    `lengths` are the recipe's optimizer steps at T = `total_steps`, by the name of the option, of training or
    method, that has them where it is null (lengths.py). Without `total_steps` they hold at any T. `values` has what
    the tables in conf/recipes say, by the option's key, apart for `protocol` and `source`; nothing is set by it.
    """

    name: str = MISSING
    total_steps: int | None = MISSING
    lengths: dict[str, int] = MISSING
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    protocol: str | None = MISSING  # set by conf/recipes/protocol-<model>.yaml
    source: str | None = MISSING  # set by conf/recipes/<recipe>-<model>.yaml


@dataclass
class Training:
    """One run's training. Lengths are optimizer steps; null: the recipe's."""

    epochs: float = MISSING
    max_steps: int | None = MISSING
    batch_size: int = MISSING
    micro_batches: Any = MISSING  # int, or `auto` until plan.py has settled it; OmegaConf's unions can't be merged
    activation_checkpointing: bool = MISSING
    eval_batch_size: Any = MISSING  # as micro_batches
    lr: float = MISSING
    warmup_steps: int | None = MISSING
    weight_decay: float = MISSING
    max_grad_norm: float | None = MISSING
    adam_beta1: float = MISSING
    adam_beta2: float = MISSING
    adam_eps: float = MISSING
    eval_steps: int | None = MISSING
    log_steps: int = MISSING
    checkpoint_minutes: float | None = MISSING
    checkpoint_steps: int | None = MISSING

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size", "lr", "adam_eps", "log_steps"):
            value = getattr(self, key)
            require(0 < value < math.inf, f"training.{key}={value}: must be positive and finite")
        for key in ("micro_batches", "eval_batch_size"):
            value = getattr(self, key)
            require(
                value == "auto" or (isinstance(value, int) and value > 0),
                f"training.{key}={value}: must be a positive whole number, or auto (what fits the device's memory)",
            )
        for key in ("max_steps", "eval_steps", "max_grad_norm", "checkpoint_minutes", "checkpoint_steps"):
            value = getattr(self, key)
            require(value is None or value > 0, f"training.{key}={value}: must be positive or null")
        for key in ("warmup_steps", "weight_decay"):
            value = getattr(self, key)
            require(value is None or 0 <= value < math.inf, f"training.{key}={value}: must be finite and not negative")
        for key in ("adam_beta1", "adam_beta2"):
            value = getattr(self, key)
            require(0 <= value < 1, f"training.{key}={value}: must lie in [0, 1)")
        require(
            isinstance(self.micro_batches, str) or self.batch_size % self.micro_batches == 0,
            f"training.micro_batches={self.micro_batches} must divide training.batch_size={self.batch_size}",
        )


@dataclass
class PlannedTraining(Training):
    """A training of T = `total_steps` optimizer steps, without open lengths."""

    warmup_steps: int = MISSING
    eval_steps: int = MISSING
    total_steps: int = MISSING


@dataclass
class Config:
    """The whole tree: what the user chose, some of it open."""

    model: Model = MISSING
    task: Task = MISSING
    method: MethodConfig = MISSING
    budget: Budget = MISSING
    recipe: Recipe = MISSING
    training: Training = MISSING
    seed: int = MISSING
    precision: str = MISSING
    device: str = MISSING
    data_root: str | None = MISSING
    run_root: str = MISSING
    cache_dir: str = MISSING
    tracking: str = MISSING
    dry_run: bool = MISSING
    debug: bool = MISSING

    def __post_init__(self) -> None:
        choices = {
            "precision": ("fp32", "tf32", "bf16", "fp16"),
            "device": ("auto", "cpu", "cuda"),
            "tracking": ("wandb", "none"),
        }
        for key, values in choices.items():
            value = getattr(self, key)
            require(value in values, f"{key}={value}: allowed are {', '.join(values)}")
        require(0 <= self.seed < 2**31, f"seed={self.seed}: must lie in [0, 2^31)")
        name = self.method.name
        require(
            METHOD_CONFIGS.get(name) is type(self.method),
            f"method.name={name} can't be set by hand: choose with method=..., allowed are {', '.join(METHOD_CONFIGS)}",
        )
        types = self.method.model_types
        require(
            not types or self.model.model_type in types,
            f"method={name} has its place in {', '.join(types)} only, {self.model.title} is of type "
            f"{self.model.model_type}: choose another method or model",
        )
        _ = self.backbone  # raises where there is none
        allowed = (*TRAINING_LENGTHS, *self.method.lengths)
        for key, value in self.recipe.lengths.items():
            require(key in allowed, f"recipe.lengths.{key}: method={name} has {nearest(key, allowed)}")
            require(value >= 0, f"recipe.lengths.{key}={value}: must not be negative")
        steps = self.recipe.total_steps
        require(steps is None or steps > 0, f"recipe.total_steps={steps}: must be positive or null")

    @property
    def backbone(self) -> Model:
        """The model with the task's head, its targets the maps that the method adapts. Raises `UserError`."""
        model = self.model.serving(self.task)
        places = self.method.places(model.model_type) if isinstance(self.method, PlacedConfig) else None
        return model if places is None else model.narrowed(places)


@dataclass(frozen=True)
class Resolved:
    """The options in force: those of `Config` that a run needs, none of them open."""

    model: Model
    task: Task
    method: MethodConfig
    budget: Budget
    recipe: Recipe
    training: PlannedTraining
    seed: int
    precision: str
    device: str
    run_root: str
    cache_dir: str
    tracking: str

    @classmethod
    def of(cls, config: Config, **settled: Any) -> "Resolved":
        """`config` with what has been settled in place of its own parts."""
        return cls(**{name: settled.get(name, getattr(config, name)) for name in (field.name for field in fields(cls))})
