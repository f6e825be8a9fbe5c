"""The settings of the published tables, from `results/paper/*.csv`: one for each row and task that a table prints.

A setting is the overrides of one `train.py` command, without the seed. A row that no overrides express is named with
the reason.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from adalora.errors import UserError
from adalora.reporting.paper import DATASETS, FOLDER, NO_BUDGET

TABLES = {  # what a person asks for -> tables of the papers
    "glue": ("AdaLoRA-T1",),
    "squad": ("AdaLoRA-T2",),
    "summarization": ("AdaLoRA-T3",),
    "ablations": ("AdaLoRA-T4", "AdaLoRA-T5", "AdaLoRA-T14"),
    "increlora": ("IncreLoRA-T1",),
}
FILES = ("adalora_tables.csv", "increlora_tables.csv")
ROWS = {  # a row's name -> its options; "(r=8)" behind a name is what its budget comes to
    "Full FT": "method=full",
    "BitFit": "method=bitfit",
    "HAdapter": "method=houlsby",
    "PAdapter": "method=pfeiffer",
    "LoRA": "method=lora",
    "LoRA (all)": "method=lora",
    "LoRA-regu (orthogonal reg on A and B)": "method=lora method.orthogonality=0.1",  # AdaLoRA's gamma there
    "LoRA (W_q, W_k per row label; caption and text say W_q, W_v)": "method=lora method.modules=[query,value]",
    "AdaLoRA": "method=adalora",
    "Prune LoRA": "method=adalora method.form=doublets",
    "AdaLoRA, s(.)=I(.) sensitivity-only": "method=adalora method.importance=sensitivity",
    "AdaLoRA, S_i=|lambda_i| magnitude": "method=adalora method.importance=magnitude",
    "SVD-LoRA (SVD adaptation + reg, no allocation)": (
        "method=adalora method.init_rank={rank} method.target_rank={rank}"
    ),
    "AdaLoRA gamma=0 (no orthogonal reg)": "method=adalora method.orthogonality=0",
    "IncreLoRA": "method=increlora",
}


@dataclass(frozen=True)
class Setting:
    """A cell of a table without its seed."""

    table: str
    overrides: tuple[str, ...]


def published(what: str, folder: Path = FOLDER) -> tuple[list[Setting], list[str]]:
    """The settings of `what` (a key of `TABLES`, or `all`), in the tables' order, each once.

    Returns:
        The settings, and a line for every printed row that can't be expressed.

    Raises:
        UserError: `what` is unknown, or a file can't be read.
    """
    if what not in (*TABLES, "all"):
        raise UserError(f"WHAT={what}: allowed are {', '.join(TABLES)}, all")
    tables = [table for name, group in TABLES.items() if what in (name, "all") for table in group]
    rows = [row for name in FILES for row in read(folder / name)]
    # Table 9 gives LoRA's rank at a budget, which is SVD-LoRA's too
    ranks = {
        row["budget_label"]: row["value"] for row in rows if row["table"] == "AdaLoRA-T9" and row["metric"] == "rank"
    }
    settings: dict[tuple[str, ...], Setting] = {}
    left: dict[str, None] = {}
    for table in tables:
        for row in rows:
            task = DATASETS.get(row["dataset"])
            dash = not row["value"] and row["verified"] != "not-found"  # a cell that the paper leaves empty
            if row["table"] != table or task in (None, "average") or dash:
                continue
            name = re.sub(r" \(r=\d+\)$", "", row["method"])
            if name not in ROWS:
                left[f"{table}: {name}, {row['budget_label']}, {row['dataset']}: no method of that name"] = None
                continue
            method, *options = ROWS[name].format(rank=ranks.get(row["budget_label"])).split()
            budget = [] if method.removeprefix("method=") in NO_BUDGET else [f"budget={row['budget_label']}"]
            overrides = (f"task={task}", method, *budget, *options)
            settings.setdefault(overrides, Setting(table, overrides))
    return list(settings.values()), list(left)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file of published numbers. Raises `UserError`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): it belongs to the repository") from error
    missing = {"table", "dataset", "metric", "method", "budget_label", "value", "verified"} - set(
        rows[0] if rows else ()
    )
    if missing:
        raise UserError(f"{path} has no column {', '.join(sorted(missing))}: restore it")
    return rows
