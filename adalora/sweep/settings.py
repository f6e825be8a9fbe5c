"""The settings of the published tables, from `results/paper/*.csv`: one per printed row and task.

A setting is the overrides of one `train.py` command without the seed. Rows that can't be expressed are reported with
the reason.
"""

from dataclasses import dataclass
from pathlib import Path

from adalora.options import written
from adalora.paths import PAPER
from adalora.records.published import BUDGETS, DATASETS, identity, lora_ranks, named, read_all

TABLES = {  # name on the command line -> tables of the papers
    "glue": ("AdaLoRA-T1",),
    "squad": ("AdaLoRA-T2",),
    "summarization": ("AdaLoRA-T3",),
    "ablations": ("AdaLoRA-T4", "AdaLoRA-T5", "AdaLoRA-T14"),
    "increlora": ("IncreLoRA-T1", "IncreLoRA-T2"),
    "decoders": ("PEFT-MetaMathQA",),
}
PROTOCOLS = {  # options that a table's cells share; of such a table only the rows that can be expressed are meant
    "PEFT-MetaMathQA": ("recipe=peft_comparison", "model=llama32_3b", "precision=bf16", "model.dtype=bf16"),
}


@dataclass(frozen=True)
class Setting:
    """A cell of a table without its seed."""

    table: str
    overrides: tuple[str, ...]


def published(what: str, folder: Path = PAPER) -> tuple[list[Setting], list[str]]:
    """The settings of `what` (a key of `TABLES`, or `all`), in the tables' order, without duplicates.

    Returns:
        The settings, and a line for every printed row that can't be expressed.

    Raises:
        UserError: a file can't be read.
    """
    tables = [table for name, group in TABLES.items() if what in (name, "all") for table in group]
    rows = read_all(folder)
    ranks = lora_ranks(rows)
    settings: dict[tuple[str, ...], Setting] = {}
    left: dict[str, None] = {}
    for table in tables:
        for row in rows:
            task = DATASETS.get(row["dataset"])
            dash = not row["value"] and row["verified"] != "not-found"  # a cell left empty in the paper
            if row["table"] != table or task in (None, "average") or dash:
                continue
            who = identity(row, ranks)
            if table in PROTOCOLS and not (who and row["budget_label"] in BUDGETS):
                continue  # one of many tuners and configurations
            if who is None:
                left[f"{table}: {named(row)}, {row['budget_label']}, {row['dataset']}: no method of that name"] = None
                continue
            method, budget, variant = who
            size = [] if budget == "any" else [f"budget={budget}"]
            for options in variant if isinstance(variant, tuple) else (variant,):  # two if the row is a difference
                given = [f"{key}={written(value)}" for key, value in sorted(options)]
                overrides = (f"task={task}", f"method={method}", *size, *PROTOCOLS.get(table, ()), *given)
                settings.setdefault(overrides, Setting(table, overrides))
    return list(settings.values()), list(left)
