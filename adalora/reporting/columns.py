"""The columns of published tables, and the names of methods in tables."""

from typing import NamedTuple

from adalora.records.variant import Variant, describe


class Column(NamedTuple):
    """A task's metric in a table."""

    task: str
    metric: str
    title: str


GLUE = (
    Column("mnli", "accuracy_matched", "MNLI m"),
    Column("mnli", "accuracy_mismatched", "MNLI mm"),
    Column("sst2", "accuracy", "SST-2"),
    Column("cola", "matthews", "CoLA"),
    Column("qqp", "accuracy", "QQP acc"),
    Column("qqp", "f1", "QQP F1"),
    Column("qnli", "accuracy", "QNLI"),
    Column("rte", "accuracy", "RTE"),
    Column("mrpc", "accuracy", "MRPC"),
    Column("stsb", "pearson_spearman", "STS-B"),
)
AVERAGE = Column("average", "average", "Ave.")
TASK_SETS = {
    "GLUE": (*GLUE, AVERAGE),
    "SQuAD": tuple(
        Column(f"squad_v{v}", metric, f"v{title} {short}")
        for v, title in ((1, "1.1"), (2, "2.0"))
        for metric, short in (("exact_match", "EM"), ("f1", "F1"))
    ),
    "Summarization": tuple(
        Column(task, metric, f"{title} {short}")
        for task, title in (("xsum", "XSum"), ("cnn_dailymail", "CNN/DM"))
        for metric, short in (("rouge1", "R-1"), ("rouge2", "R-2"), ("rougeL", "R-L"), ("rougeLsum", "R-Lsum"))
    ),
}
SIGNED = ("matthews", "pearson", "spearman", "pearson_spearman")  # metrics from -100 to 100
TABLE_1 = ("full", "bitfit", "houlsby", "pfeiffer", "lora", "adalora")  # in the paper's order
TITLES = {
    "full": "Full FT", "bitfit": "BitFit", "houlsby": "HAdapter (Houlsby)", "pfeiffer": "PAdapter (Pfeiffer)",
    "lora": "LoRA", "adalora": "AdaLoRA", "increlora": "IncreLoRA", "sora": "SoRA", "melora": "MELoRA", "mora": "MoRA",
    "lorta": "LoRTA", "prilora": "PRILoRA, from the abstract", "lora_mini": "LoRA-Mini, from the abstract",
}  # fmt: skip
BUDGETS = (
    "any", "1.2M", "0.6M", "0.3M", "0.08%", "2.20%", "1.10%", "0.26%", "0.13%", "37K", "7K",
)  # fmt: skip


def title_of(method: str, options: Variant, *more: str) -> str:
    """A method's usual name, with the options of a variant in brackets.

    AdaLoRA whose initial and target ranks are equal is SVD-LoRA (arXiv 2303.10512 Table 5).
    """
    name, ends = TITLES.get(method, method), ("method.init_rank", "method.target_rank")
    ranks = [value for key, value in options if key in ends]
    if method == "adalora" and len(ranks) == 2 and len(set(ranks)) == 1:
        name, options = "SVD-LoRA", frozenset(item for item in options if item[0] not in ends)
    text = ", ".join(filter(None, [describe(options), *more]))
    return f"{name} [{text}]" if text else name


def position(row: tuple[str, str, str]) -> tuple[bool, bool, int, str, int, str, str]:
    """Sort key of (method, budget, name): Table 1's rows, then other budgets of its methods, then other methods."""
    method, budget, name = row
    place = TABLE_1.index(method) if method in TABLE_1 else len(TABLE_1)
    order = BUDGETS.index(budget) if budget in BUDGETS else len(BUDGETS)
    return method not in TABLE_1, budget not in BUDGETS[:4], order, budget, place, method, name


def reach(metric: str) -> tuple[float, float]:
    """The lowest and highest value of a metric as tables have it; costs and bits per byte have no highest."""
    if metric in ("peak_memory_gb", "minutes_per_epoch") or metric.startswith("bits_per_byte"):
        return 0.0, float("inf")
    return (-100.0 if metric in SIGNED else 0.0), 100.0
