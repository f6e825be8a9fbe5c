"""The papers' claims as typed data, from `results/paper/claims.yaml`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from adalora.errors import UserError
from adalora.places import PAPER
from adalora.published import lora_ranks, read_all, size_of
from adalora.variant import Variant, variant

KINDS, OVER, STEPS = ("scores", "ranks", "cost"), ("each", "average"), ("last", "best")


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a method, its variant, and its budget if it is fixed."""

    method: str
    variant: Variant = frozenset()  # `RANK`: LoRA's rank at the budget
    budget: str | None = None  # None: the claim's budgets

    def at(self, budget: str | None, ranks: Mapping[str, str]) -> "Side":
        """This side at one of the claim's budgets, unless it has its own."""
        budget = size_of(self.budget or budget or "") or None
        return Side(self.method, variant(dict(self.variant), ranks.get(budget or "")), budget)


@dataclass(frozen=True)
class Claim:
    """A statement, and the cells that it is about. `more` and `less` select maps for `kind: ranks`."""

    id: str
    statement: str
    place: str
    one: Side
    tasks: Sequence[str]
    others: Sequence[Side] = ()
    budgets: Sequence[str] = ()
    table: str | None = None
    kind: str = "scores"
    over: str = "each"
    metrics: Sequence[str] = ()  # metrics of a task; empty: the table's, averaged
    step: str = "last"
    more: dict[str, Any] = field(default_factory=dict)
    less: dict[str, Any] = field(default_factory=dict)
    ranks: Mapping[str, str] = field(default_factory=dict, repr=False)  # LoRA's, by budget

    def pairs(self) -> Iterator[tuple[Side, Side]]:
        """The two sides of every comparison, with their budgets."""
        budgets: Sequence[str | None] = self.budgets or [None]
        for budget in budgets:
            for other in self.others or [self.one]:
                yield self.one.at(budget, self.ranks), other.at(budget, self.ranks)


def read_claims(folder: Path = PAPER, paper: Path | None = None) -> list[Claim]:
    """Read all claims.

    Args:
        folder: folder of `claims.yaml`.
        paper: folder of the published numbers, if it is another.

    Raises:
        UserError: the file can't be read, or a claim has an unknown field or choice, or no budget.
    """
    path = folder / "claims.yaml"
    try:
        entries: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        claims = [claim_of(entry) for entry in entries]
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): it belongs to the repository") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{path} can't be read as claims: {' '.join(str(error).split())}") from error
    ids = [claim.id for claim in claims]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise UserError(f"{path} has {', '.join(sorted(twice))} twice")
    ranks = lora_ranks(read_all(paper or folder))
    return [replace(claim, ranks=ranks) for claim in claims]


def claim_of(entry: dict[str, Any]) -> Claim:
    """Convert a mapping to a claim. Raises `UserError`, or `TypeError` if a field is missing."""
    name = entry.get("id")
    allowed_fields = [each.name for each in fields(Claim) if each.name != "ranks"]
    if unknown := [key for key in entry if key not in allowed_fields]:
        raise UserError(f"claim {name}: there is no field {unknown[0]}, allowed are {', '.join(allowed_fields)}")
    sides = [Side(**(each | {"variant": variant(each.get("variant", {}))}))
             for each in (entry["one"], *entry.get("others", ()))]  # fmt: skip
    claim = Claim(**(entry | {"one": sides[0], "others": sides[1:]}))
    for key, allowed in {"kind": KINDS, "over": OVER, "step": STEPS}.items():
        if getattr(claim, key) not in allowed:
            raise UserError(f"claim {name}: {key}={getattr(claim, key)}: allowed are {', '.join(allowed)}")
    if any(side.budget is None for pair in claim.pairs() for side in pair):
        raise UserError(f"claim {name}: one side has no budget: give the claim budgets, or each side a budget")
    if (claim.kind == "ranks") != bool(claim.more and claim.less):
        raise UserError(f"claim {name}: kind: ranks needs both more and less, and other kinds take neither")
    return claim
