"""Claims as typed data: the papers' in `results/paper/claims.yaml`, a study's in its folder."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict

from adalora.errors import UserError
from adalora.files.reading import read_yaml
from adalora.records.published import lora_ranks, read_all, size_of
from adalora.records.variant import Variant, variant

FILE = "claims.yaml"


SHARED = BeforeValidator(lambda options: variant(options))


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a method, its variant, and its budget if it is fixed."""

    method: str
    variant: Annotated[Variant, SHARED] = frozenset()  # `RANK`: LoRA's rank at the budget
    budget: str | None = None  # None: the claim's budgets

    __pydantic_config__ = ConfigDict(extra="forbid")

    def at(self, budget: str | None, ranks: Mapping[str, str]) -> "Side":
        """This side at one of the claim's budgets, unless it has its own."""
        budget = size_of(self.budget or budget or "") or None
        return Side(self.method, variant(dict(self.variant), ranks.get(budget or "")), budget)


@dataclass(frozen=True)
class Modules:
    """A group of modules: by short names (`model.targets`), or half of the layers."""

    modules: Sequence[str] = ()
    half: Literal["upper", "lower"] | None = None

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if bool(self.modules) == bool(self.half):
            raise ValueError("give either modules or half")

    @property
    def name(self) -> str:
        """The group in words."""
        return f"{self.half} half" if self.half else "+".join(self.modules)


@dataclass(frozen=True)
class Claim:
    """A statement, and the cells that it is about.

    `more` and `less` select modules for `kind: ranks`. `limit` is the largest ratio for `kind: cost`; without it the
    largest that `table` prints. `margin` and `resolution`, in the metric's unit, are those of a study's protocol
    (docs/statistics.md).
    """

    id: str
    statement: str
    place: str
    one: Side
    tasks: Sequence[str] = ()
    others: Sequence[Side] = ()
    budgets: Sequence[str] = ()
    table: str | None = None
    kind: Literal["scores", "ranks", "cost"] = "scores"
    over: Literal["each", "average"] = "each"
    metrics: Sequence[str] = ()  # metrics of a task; empty: the table's, averaged
    step: Literal["last", "best"] = "last"
    more: Modules | None = None
    less: Modules | None = None
    limit: float | None = None
    lacks: str = ""  # what of the source's cells this suite doesn't have: the claim has no comparisons
    shared: Annotated[Variant, SHARED] = frozenset()  # options that both sides have besides their variant
    family: str | None = None  # claims of one family are corrected together; None: a claim alone
    margin: float | None = None  # differences within it are none
    resolution: float | None = None  # a smaller difference isn't decided
    ranks: Mapping[str, str] = field(default_factory=dict, repr=False)  # LoRA's, by budget

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if bool(self.lacks) == bool(self.tasks):
            raise ValueError(f"{self.id}: give either tasks, or what the suite lacks")
        if self.table and (self.margin or self.resolution):
            raise ValueError(f"{self.id}: margin and resolution are for a study's claims, which have no table")
        if not self.lacks and any(side.budget is None for pair in self.pairs() for side in pair):
            raise ValueError(f"{self.id}: one side has no budget: give the claim budgets, or each side a budget")
        if (self.kind == "ranks") != bool(self.more and self.less):
            raise ValueError(f"{self.id}: kind: ranks needs both more and less, and other kinds take neither")
        if self.kind == "cost" and self.table is None and self.limit is None:
            raise ValueError(f"{self.id}: kind: cost needs a table or a limit for the ratio")

    def pairs(self) -> Iterator[tuple[Side, Side]]:
        """The two sides of every comparison, with their budgets."""
        for budget in self.budgets or (None,):
            for other in self.others or [self.one]:
                yield self.one.at(budget, self.ranks), other.at(budget, self.ranks)


def read_claims(folder: Path) -> list[Claim]:
    """Read the claims of a folder.

    Raises:
        UserError: the file can't be read or isn't valid, or two claims have one name.
    """
    claims = read_yaml(folder / FILE, list[Claim])
    if twice := [name for name, count in Counter(claim.id for claim in claims).items() if count > 1]:
        raise UserError(f"{folder / FILE} has {', '.join(twice)} twice")
    ranks = lora_ranks(read_all())
    return [replace(claim, ranks=ranks) for claim in claims]
