"""Plan a run and its cost from options, row counts and the backbone's shapes, without weights or data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora.backbones.options import DECODERS, Model
from adalora.backbones.outline import Outline, outline_of
from adalora.config.lengths import fit_lengths
from adalora.config.recipes import departures
from adalora.config.schema import Config, Resolved
from adalora.errors import UserError
from adalora.methods.options import MethodConfig, PlacedConfig, Shapes
from adalora.options import require
from adalora.planning.budget import Choice, Solution, solve
from adalora.planning.identity import rows_of_evaluation, steps_of
from adalora.planning.memory import Machine, evaluation_memory, fit_batches, machine, training_memory
from adalora.wording import memory

if TYPE_CHECKING:
    from adalora.methods.init_from import InitialAdapter

LOGS = 5e6  # bytes for a run's logs, wandb's offline files and figures (ours, a guess)
LARGEST_STEP = 2**40  # bytes; no device has more (ours)
CARD_ONLY = (
    "scripts.export can make neither a PEFT adapter nor a merged model of this run, as its query adapter skips "
    "positions (docs/deviations.md: D-posq); with model.pos_query_base_only=false it can"
)


@dataclass(frozen=True)
class Cost:
    """Estimated cost of a run."""

    tokens: int  # tokens of the longest row
    mean_tokens: float  # tokens of a row on average
    flops: float  # per training step at the mean length: forward, and backward down to the lowest adapter
    memory: float  # bytes at the maximum length: weights; trained parameters, gradients, moments; activations
    disk: float  # bytes on disk after the run
    checkpoints: float  # additional bytes on disk during the run


@dataclass(frozen=True)
class Facts:
    """What a plan needs besides the options."""

    rows: Mapping[str, int]  # rows by split, for training and evaluation
    outline: Outline
    initial: "InitialAdapter | None"  # the adapter given by `method.init_from`
    machine: Machine  # the device


@dataclass(frozen=True)
class Plan:
    """A resolved run."""

    config: Resolved
    solution: Solution
    shapes: dict[str, tuple[int, int]]  # of the adapted modules
    rows: int
    steps_per_epoch: int
    notes: list[str]
    cost: Cost
    departures: dict[str, tuple[Any, Any]]  # options that differ from the recipe: (its value, the value used)

    @property
    def total_steps(self) -> int:
        """T, the optimizer steps of the training."""
        return self.config.training.total_steps

    def summary(self) -> dict[str, Any]:
        """A summary for tables of plans: setting, exact counts, deviation from the budget."""
        solution = self.solution
        return {
            "model": self.config.model.name,
            "task": self.config.task.name,
            "method": self.config.method.name,
            "seed": self.config.seed,
            "setting": self.config.method.describe(),
            "budget": {"name": solution.budget, "params": solution.params, "deviation": solution.deviation},
            "parameters": asdict(solution.counts),
            "steps": self.total_steps,
        }


def make_plan(options: Config, rows: Mapping[str, int], folder: Path | None = None) -> Plan:
    """Read the architecture (from `folder`, if given) and the adapter to start from, and `resolve`.

    Raises:
        UserError: a file is missing or damaged, or the run isn't possible."""
    outline = outline_of(options.backbone, options.task.outputs, folder)
    return resolve(options, Facts(rows, outline, initial_adapter(options.method), machine(options.device)))


def resolve(options: Config, facts: Facts) -> Plan:
    """Resolve everything that the options leave open: modules, size for the budget, T and lengths. A pure function.

    Raises:
        UserError: the budget, a rank, a length or the memory isn't possible.
    """
    model, task, outline = options.backbone, options.task, facts.outline
    solution, shapes = fit_size(options, outline, facts.initial)
    train_rows = facts.rows[task.train_split]
    total_steps = steps_of(options.training, train_rows)
    eval_rows = rows_of_evaluation(task, facts.rows)
    training, method, scaled = fit_lengths(options, solution.config, total_steps, eval_rows)
    method.check(shapes, total_steps)
    budget = replace(options.budget, params=solution.params, rank=None, settings={})
    config = Resolved.of(options, model, method, budget, training)
    trained, adapted = solution.counts.total, dict(solution.config.select(shapes))
    weights = sum(d_out * d_in for d_out, d_in in adapted.values())
    micro, evaluated, sized = fit_batches(
        training,
        facts.machine,
        lambda rows: training_memory(config, outline, trained, weights, rows),
        lambda rows: evaluation_memory(config, outline, rows),
    )
    training = replace(training, micro_batches=micro, eval_batch_size=evaluated)
    config = replace(config, training=training)
    cost = estimate(config, outline, trained, weights, facts.machine.processes)
    if cost.memory > LARGEST_STEP:
        raise UserError(
            f"a step of {config.training.batch_size} rows of {cost.tokens} tokens needs about "
            f"{memory(cost.memory)}: raise training.micro_batches, or lower task.max_length"
        )
    notes = [] if facts.initial is None else [facts.initial.describe()]
    if scaled:
        notes.append(f"lengths scaled from {options.recipe.total_steps} to {total_steps} steps: {', '.join(scaled)}")
    notes.extend(sized)
    if training.warmup_steps >= total_steps:
        notes.append(f"training.warmup_steps={training.warmup_steps}: the learning rate rises to the last step")
    query = any(path.endswith(".query_proj") for path in adapted)
    if model.pos_query_base_only and query and isinstance(method, PlacedConfig):
        notes.append(CARD_ONLY)
    if solution.choice == Choice.FIXED:
        notes.append(f"{method.name} has no choice of budget: {budget.name} is ignored")
    return Plan(
        config,
        solution,
        adapted,
        train_rows,
        math.ceil(train_rows / training.batch_size),
        notes,
        cost,
        departures(options),
    )


def check_possible(options: Config) -> None:
    """Solve the budget by the numbers in the options, before anything is downloaded or loaded. Raises `UserError`."""
    fit_size(options, outline_of(options.backbone, options.task.outputs), initial_adapter(options.method))


def initial_adapter(method: MethodConfig) -> "InitialAdapter | None":
    """The adapter that `method` starts from, if any. Raises `UserError` if it can't be read."""
    if method.initial_adapter() is None:
        return None
    from adalora.methods.init_from import read_initial  # imports torch

    return read_initial(method)


def fit_size(
    options: Config, outline: Outline, initial: "InitialAdapter | None"
) -> tuple[Solution, dict[str, tuple[int, int]]]:
    """The method's size for the budget, and the shapes of the modules. Raises `UserError` if one isn't possible."""
    model, method = options.backbone, options.method
    if model.pos_query_base_only and model.model_type != "deberta-v2":
        raise UserError(f"model.pos_query_base_only=true is for DeBERTa: {model.title} has no relative positions")
    task = options.task
    lengths = {"task.max_length": task.max_length, "task.eval_length": task.eval_tokens}
    if task.generates and model.model_type in DECODERS:
        lengths["task.max_length + task.max_new_tokens"] = task.max_length + task.generates[1]
    elif task.generates:
        lengths["task.max_target_length"] = task.generates[1]
    for name, tokens in lengths.items():
        most = outline.positions  # None: there is no limit
        require(
            most is None or tokens <= most,
            f"{name}={tokens} is more than the {most} positions of {model.title}: set {name}={most} or lower",
        )
    shapes = outline.targets(model)
    check_trained_modules(model, outline, shapes)
    if initial is not None:
        method = method.from_rank(initial.rank)
        require(
            not model.pos_query_base_only,
            "method.init_from: PEFT adapts the relative-position query too, set model.pos_query_base_only=false",
        )
        from adalora.methods.init_from import check_initial

        whole = [*model.head, *model.train_modules]
        trained = {name: (first, outline.parameters[first]) for name, first in outline.within(whole).items()}
        check_initial(initial, method, whole, trained, shapes)
    solution = solve(model, method, options.budget, outline, shapes)
    check_rank(solution.config, shapes)
    return solution, shapes


def check_trained_modules(model: Model, outline: Outline, shapes: Shapes) -> None:
    """Reject `task.train_modules` that don't exist, or that the method adapts. Raises `UserError`."""
    modules = outline.modules()
    for name in model.train_modules:
        if name not in modules:
            top = [path for path in modules if "." not in path]
            near = ", ".join(get_close_matches(name, modules) or top)
            raise UserError(f"task.train_modules: {model.title} has no module {name}; it has {near}")
        if name in model.head or any(f"{path}.".startswith(f"{name}.") for path in shapes):
            raise UserError(f"task.train_modules: {name} is trained anyway, as the head or by the method: leave it out")


def check_rank(method: MethodConfig, shapes: Shapes) -> None:
    """Reject a rank larger than the smaller side of the adapted modules. Raises `UserError`."""
    if method.rank_option is None:
        return
    rank, most = getattr(method, method.rank_option), min(map(min, shapes.values()))
    if rank is not None and rank > most:
        raise UserError(
            f"method.{method.rank_option}={rank:g} is more than {most}, the smaller side of the adapted modules: "
            "lower it, or the budget"
        )


def estimate(config: Resolved, outline: Outline, trained: int, adapted: int, processes: int) -> Cost:
    """Estimate FLOPs, memory per process, and disk space.

    A product with a weight of N entries costs 2 N FLOPs per token forward, 2 N for the gradient of its input, and 2 N
    more if the weight is trained. A decoder's weights and the output layer see the target's tokens, the keys and values
    of its cross-attention the input's. DeBERTa's products with relative positions aren't counted. A checkpoint holds
    the trained parameters, AdamW's two moments and at most two averages of the same size; three checkpoints exist while
    one is being written.
    """
    task, tokens, batch = config.task, config.task.max_length, config.training.batch_size
    mean, target = task.mean_tokens
    weights = outline.linear_weights()
    decoder = 0
    if outline.decoder_layers:
        decoder = outline.linear_weights(r"model\.decoder\.(?!.*encoder_attn\.[kv]_proj$)|lm_head")
    per_weight = 6 if trained > weights else 4
    # a row's attention scores and their products with the values; BART's target sees itself and the input
    attention = 4 * outline.query_width * outline.num_hidden_layers * mean * mean
    attention += 4 * outline.query_width * outline.decoder_layers * target * (target + mean)
    passes = 3  # forward, and twice that backward
    if config.training.activation_checkpointing:  # forward again, for activation checkpointing
        per_weight, passes = per_weight + 2, passes + 1
    flops = batch * (per_weight * (mean * (weights - decoder) + target * decoder) + passes * attention)
    memory = training_memory(config, outline, trained, adapted, -(-batch // config.training.micro_batches // processes))
    return Cost(tokens, mean, float(flops), memory, 4.0 * trained + LOGS, 3 * 4 * 5.0 * trained)
