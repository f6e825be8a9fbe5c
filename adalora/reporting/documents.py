"""The pages that compare our runs with published tables: their tables and notes."""

from collections.abc import Sequence
from typing import NamedTuple

from adalora.reporting.cells import AVERAGE, GLUE, TASK_SETS, Column
from adalora.reporting.paper import BART, MODEL, ROWS

INTRO = (
    "In percent. Ours: median over n seeds; last is the last step, best the evaluation with the best headline metric "
    "(a task's other metrics are of that same step); std is the sample standard deviation of last, "
    "95 % Student's interval for the mean of last (docs/statistics.md). "
    "Empty: not run. # Params: adapter parameters kept, head not counted."
)
VARIANT_NOTE = (
    "A row's name in brackets lists what sets its runs apart from others of the method and budget, and from the "
    "published hyperparameters or, where there are none, the defaults. A published number stands beside a run only if "
    "it was printed for the same variant. Where a method's learning rate or alpha isn't published (the baselines'), "
    "any may stand there: the authors tuned them too."
)
GLUE_NOTES = [
    "Ave. is the mean over the 8 tasks, the pairs of MNLI and QQP averaged first; only where all 8 were run. "
    "The published averages are rounded in 9 rows and truncated (0.01 lower) in Full FT, HAdapter 0.6M and LoRA 0.3M.",
    "RTE has 277 dev examples, one is 0.36 points. All 12 values of Table 1 are k/277, which points to single runs, "
    "medians or best values rather than means of 5.",
    "Rows outside Table 1: budgets in percent are from Tables 4 and 5, which differ in places from Table 1; LoRA on "
    "two maps is from Table 14, IncreLoRA from arXiv 2308.12043. glue.csv names the table of each number.",
    VARIANT_NOTE,
]
LEGEND = "Printed names: " + "; ".join(
    f"{printed} is {method} [{options.format(rank='r')}]" for printed, (method, options) in ROWS.items() if options
)


class Part(NamedTuple):
    """One published table."""

    table: str  # name in results/paper
    title: str
    model: str
    columns: Sequence[Column]
    source: str = "paper"
    scored: bool = True  # False for memory and time, which have no best step


class Page(NamedTuple):
    """A page. `whole`: it also shows runs that its one published table doesn't have."""

    title: str
    intro: Sequence[str]
    parts: Sequence[Part]
    notes: Sequence[str]
    whole: bool = False


def glue(*names: str) -> list[Column]:
    """Columns of GLUE by task."""
    return [column for name in names for column in GLUE if column.task == name]


MNLI_AVERAGE = Column("mnli", "accuracy_average", "MNLI m/mm")
COSTS = tuple(
    Column(task, metric, f"{title} {unit}")
    for task, title in (("mnli", "MNLI"), ("sst2", "SST-2"))
    for metric, unit in (("peak_memory_gb", "GB"), ("minutes_per_epoch", "min/epoch"))
)
PAGES = {
    "glue": Page(
        "GLUE beside the paper's Table 1",
        [INTRO, "Paper: arXiv 2303.10512, dev sets, said to be means of 5 seeds; whether of the last or the best step "
         "isn't said."],
        [Part("AdaLoRA-T1", "GLUE", MODEL, TASK_SETS["GLUE"])],
        GLUE_NOTES, whole=True,
    ),
    "squad": Page(
        "SQuAD beside the paper's Table 2",
        [INTRO, "Paper: arXiv 2303.10512, dev sets; neither seeds nor the step are said."],
        [Part("AdaLoRA-T2", "SQuAD", MODEL, TASK_SETS["SQuAD"])],
        ["v2.0 at the null threshold 0; the values at the best threshold are in result.json under names of their own.",
         VARIANT_NOTE], whole=True,
    ),
    "summarization": Page(
        "XSum and CNN/DailyMail beside the paper's Table 3",
        [INTRO, "Paper: arXiv 2303.10512; the split isn't said (the released code evaluates on validation)."],
        [Part("AdaLoRA-T3", "Summarization", BART, TASK_SETS["Summarization"])],
        ["R-L is over the whole summary, R-Lsum over its sentences. The paper prints one R-L; it stands beside "
         "R-Lsum, which its distance from R-1 on CNN/DailyMail points to (inferred; docs/deviations.md: D-rouge-l).",
         VARIANT_NOTE], whole=True,
    ),
    "ablations": Page(
        "Ablations beside the paper's Tables 4, 5 and 14",
        [INTRO, "Paper: arXiv 2303.10512, dev sets. Each table has its own rows only, so a run may stand beside two "
         "numbers that the paper prints for one setting (AdaLoRA on SST-2 at 0.08%: 95.52 and 95.64)."],
        [
            Part("AdaLoRA-T4", "Table 4: structured pruning and importance", MODEL, glue("sst2", "rte", "cola")),
            Part("AdaLoRA-T5", "Table 5: SVD and orthogonality", MODEL, [*glue("sst2"), MNLI_AVERAGE]),
            Part("AdaLoRA-T14", "Table 14: which maps LoRA adapts", MODEL,
                 [column for column in GLUE if column[:2] not in (("mnli", "accuracy_mismatched"), ("qqp", "f1"))]),
        ],
        [LEGEND, "Table 5 prints MNLI as the mean of matched and mismatched.",
         "Table 14's row label says W_q and W_k, its caption and text W_q and W_v; the second is taken.", VARIANT_NOTE],
    ),
    "increlora": Page(
        "IncreLoRA beside its paper's tables",
        [INTRO, "Paper: arXiv 2308.12043, dev sets, the best step (docs/deviations.md: D-incre-select): compare best. "
         "Of its Table 1 two cells of IncreLoRA at 0.3M were found as text, and none at 1.2M, whose runs are in glue."],
        [
            Part("IncreLoRA-T1", "Table 1: GLUE", MODEL, [*GLUE, AVERAGE]),
            Part("IncreLoRA-Fig4", "Figure 4: RTE over budgets", MODEL, glue("rte")),
            Part("IncreLoRA-T2", "Table 2: orthogonality and advance learning, differences", MODEL,
                 glue("rte", "stsb")),
            Part("external-reproduction", "A third party's run of the released code", MODEL, [*GLUE, AVERAGE],
                 "third party"),
        ],
        ["Figure 4's LoRA is the best of the mean ranks 2, 4, 8, 12, 16 and 24, so no single run stands beside it: "
         "run budget=custom budget.rank=N for each of them.",
         "A difference is of the medians of both variants' runs at one budget.",
         "The third party also gives 87.30 with a standard deviation of 0.84 over 6 seeds on RTE.", VARIANT_NOTE],
    ),
    "cost": Page(
        "Memory and time beside the paper's Table 15",
        ["Memory at the peak in GB (of the allocator on a GPU, of the process on a CPU) and minutes per epoch, "
         "evaluations and restarts included. Ours: median over n seeds.",
         "Paper: arXiv 2303.10512, on an NVIDIA V100, training only. Another machine's numbers can't agree: compare "
         "what AdaLoRA takes relative to LoRA in the same column (paper: 1.10 to 1.18 of the time, at most 1.01 of the "
         "memory)."],
        [Part("AdaLoRA-T15", "Table 15", MODEL, COSTS, scored=False)],
        [VARIANT_NOTE],
    ),
}  # fmt: skip
PACKAGED_INTRO = [
    "The papers' numbers don't apply here: other weights than their backbones', other rows than the official ones, or "
    "a task that they don't have. Compare within one table only.",
    INTRO,
]
