"""Solve a budget for a method's size, with exact parameter counts.

docs/deviations.md: D-named, D-rank-budgets, D-realised, D-0.6M.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum, auto

from omegaconf import OmegaConf

from adalora.backbones.options import Model
from adalora.backbones.outline import Outline
from adalora.config.schema import Budget
from adalora.errors import UserError
from adalora.methods.options import Count, MethodConfig, PlacedConfig, Shapes
from adalora.paths import CONF

TOLERANCE = 0.05  # share of the budget by which a setting may miss it


@dataclass(frozen=True)
class Counts:
    """Parameter counts of a run. The head (pooler, classifier) and `task.train_modules` are trained but never counted
    in a budget."""

    peak: int  # adapter parameters trained at once
    kept: int  # adapter parameters that the result needs (adaptive methods: at uniform allocation)
    head: int
    modules: int = 0  # of `task.train_modules`

    @property
    def total(self) -> int:
        """All trained parameters: peak adapter, head and modules."""
        return self.peak + self.head + self.modules


class Choice(Enum):
    """What decided a size."""

    FIXED = auto()  # the method: it has one size
    BUDGET = auto()  # the budget's own size for this model and method
    USER = auto()  # options of the method
    RANK = auto()  # the budget's mean rank
    NEAREST = auto()  # the nearest count


@dataclass(frozen=True)
class Solution:
    """A method's size at a budget, on one model."""

    config: MethodConfig
    budget: str  # its name in paths and tables; `any` for methods without a choice
    params: int  # adapter parameters that it stands for
    counts: Counts
    deviation: float | None  # (kept - budget) / budget
    choice: Choice


def in_parameters(budget: Budget, outline: Outline) -> int:
    """The budget in parameters. A mean rank r is r (d_in + d_out) summed over the backbone's linear layers, adapted or
    not, without head and output layer."""
    if budget.params is not None:
        return budget.params
    assert budget.rank is not None, "a budget has one of the two"
    unit = sum(map(sum, (shape for path, shape in outline.linear.items() if path.startswith(f"{outline.base}."))))
    return round(budget.rank * unit)


def solve(model: Model, method: MethodConfig, budget: Budget, outline: Outline, shapes: Shapes) -> Solution:
    """Choose the method's size for a budget.

    Sizes that the budget lists for the model and method (the papers') are used, however far they are from the nominal
    count. Sizes set by the user are left alone. Otherwise the budget's mean rank is used, if it has one and the method
    can match it, else the size with the nearest kept count.

    Raises:
        UserError: the size misses the budget by more than 5 %, and the budget doesn't list it; the message names what
            fits. Or the method finds nothing to train.
    """
    params = in_parameters(budget, outline)
    head, modules = outline.size(model.head), outline.size(model.train_modules)
    method = method.with_backbone(outline)
    if not method.has_budget:
        others = outline.within([*model.head, *model.train_modules]).values()
        own = {name for name in outline.parameters if method.trains(name)} - set(others)
        adapter = method.count(shapes).peak + sum(math.prod(outline.parameters[name]) for name in own)
        if adapter == 0:
            what = f"method={method.name} ({method.describe()})"
            raise UserError(f"{what} finds nothing to train in {model.title}: choose another method")
        counts = Counts(adapter, adapter, head, modules)
        return Solution(method, "any", params, counts, None, Choice.FIXED)

    published = budget.settings.get(model.name, {}).get(method.name, {})
    if isinstance(method, PlacedConfig):
        usual = type(method)().module_names(model.targets)
        # it belongs to the paper's modules
        published = published if method.module_names(model.targets) == usual else {}
    paper = replace(method, **{key: value for key, value in published.items() if getattr(method, key) is None})
    size = method.size(shapes)
    if published and paper == replace(method, **published):
        chosen, choice = paper, Choice.BUDGET
    elif size is not None:
        chosen, choice = method.with_size(size, shapes), Choice.USER
    elif budget.rank is not None and (ranked := at_rank(method, budget.rank, params, shapes)) is not None:
        chosen, choice = ranked, Choice.RANK
    else:
        chosen, choice = method.with_size(nearest(method, params, shapes), shapes), Choice.NEAREST

    count = chosen.count(shapes)
    deviation = (count.kept - params) / params
    if abs(deviation) > TOLERANCE and choice == Choice.USER:
        source, remedy = "set by method.*", "drop the method options, or use"
        if method.initial_adapter() is not None:  # LoRA's rank is the adapter's highest
            source, remedy = "in method.init_from", "use"
        raise UserError(
            f"{chosen.describe()}, as {source}, has {count.kept:,} adapter parameters, but budget={budget.name} "
            f"is {params:,}: {remedy} {' or '.join(budgets_of(count.kept))}"
        )
    if abs(deviation) > TOLERANCE and choice != Choice.BUDGET:
        raise UserError(refusal(method, budget.name, params, count, shapes, model))
    return Solution(chosen, budget.name, params, Counts(count.peak, count.kept, head, modules), deviation, choice)


def at_rank(method: MethodConfig, rank: float, params: int, shapes: Shapes) -> MethodConfig | None:
    """The setting of mean rank `rank`, if the method has a mean rank and adapts all modules that make up `params`. Its
    scalars (AdaLoRA's singular values) are not counted."""
    if round(rank * sum(map(sum, method.select(shapes).values()))) != params:
        return None
    config = method.at_rank(rank)
    size = None if config is None else config.size(shapes)
    return None if config is None or size is None else config.with_size(size, shapes)


def nearest(method: MethodConfig, params: int, shapes: Shapes) -> int:
    """The size whose kept count is nearest to `params`, the smaller one on a tie."""
    return min(below_and_above(method, params, shapes), key=lambda size: abs(kept_at(method, size, shapes) - params))


def kept_at(method: MethodConfig, size: int, shapes: Shapes) -> int:
    """Kept parameters at a size."""
    return method.with_size(size, shapes).count(shapes).kept


def below_and_above(method: MethodConfig, params: int, shapes: Shapes) -> tuple[int, int]:
    """The two neighbouring sizes around `params`, by bisection; the same one twice at either end of the range."""
    if kept_at(method, 1, shapes) >= params:
        return 1, 1
    low, high = 1, 2
    while kept_at(method, high, shapes) < params:
        if kept_at(method, 2 * high, shapes) == kept_at(method, high, shapes):
            return high, high
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if kept_at(method, middle, shapes) < params else (low, middle)
    return low, high


def budgets_of(kept: int) -> list[str]:
    """The command-line option for a number of parameters."""
    files = sorted((CONF / "budget").glob("*.yaml"))
    named = [file.stem for file in files if OmegaConf.select(OmegaConf.load(file), "params") == kept]
    return [f"budget={name}" for name in [*named, f"custom budget.params={kept}"]]


def refusal(method: MethodConfig, budget: str, params: int, count: Count, shapes: Shapes, model: Model) -> str:
    """Explain why a budget can't be met, and name the nearest that can."""
    reachable = []
    for size in sorted(set(below_and_above(method, params, shapes))):
        config = method.with_size(size, shapes)
        reachable.append(f"{config.describe()} = {kept_at(method, size, shapes):,}")
    return (
        f"budget={budget} is {params:,} adapter parameters, but {method.name} on {model.title} has {count.kept:,}, "
        f"more than {TOLERANCE:.0%} from the budget. Closest sizes: {' and '.join(reachable)}; "
        "choose one with budget=custom budget.params=N"
    )
