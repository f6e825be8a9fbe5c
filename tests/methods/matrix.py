"""The test matrix: one row per method, covered by every generic check.

Counts, gradients, merging, bf16 and BART: test_methods.py. Learning, repetition and resumption: test_run.py,
test_stability.py. Exports: test_export_matrix.py. Two processes: test_data_parallel.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.bitfit.options import BitFitConfig
from adalora.methods.full.options import FullConfig
from adalora.methods.houlsby.options import HoulsbyConfig
from adalora.methods.increlora.options import IncreLoRAConfig
from adalora.methods.lora.options import LoRAConfig
from adalora.methods.lora_mini.options import LoRAMiniConfig
from adalora.methods.lorta.options import LoRTAConfig
from adalora.methods.melora.options import MELoRAConfig
from adalora.methods.mora.options import MoRAConfig
from adalora.methods.options import MethodConfig, PlacedConfig
from adalora.methods.pfeiffer.options import PfeifferConfig
from adalora.methods.prilora.options import PRILoRAConfig
from adalora.methods.sora.options import SoRAConfig

NO_MAP = r"adds no increment to a linear layer, so PEFT has no format for it: try --to merged"
SQUARE = r"mora's increment has no low-rank factors, which PEFT's LoRA needs: use --to merged"
NON_LINEAR = r"bottleneck with a non-linearity.*keep the adapter beside the base"


@dataclass(frozen=True)
class Row:
    """A method, or a variant of it, for the generic checks."""

    config: MethodConfig | None = None  # on models of a few hundred parameters; None: only whole runs
    learns: Sequence[str] | None = None  # what it needs to learn the tiny run's task in 15 epochs; None: no whole run
    reaches: Mapping[str, Sequence[str]] = field(default_factory=dict)  # a budget that it comes near, by backbone
    no_peft: str | None = None  # why there is no PEFT adapter of it
    no_merged: str | None = None  # why it can't be merged
    bf16: bool = True  # learns in bf16 too
    exports: bool = True


ROWS = {  # by its options on the command line
    "adalora": Row(AdaLoRAConfig(init_rank=3, target_rank=2), ["training.lr=0.03", "method.alpha=32"]),
    "adalora method.form=doublets": Row(AdaLoRAConfig(init_rank=3, target_rank=2, form="doublets")),
    "lora": Row(LoRAConfig(rank=3), ["training.lr=0.02", "method.alpha=16"]),
    "full": Row(FullConfig(), ["training.lr=0.01"], no_peft=NO_MAP),
    "bitfit": Row(BitFitConfig(), ["training.epochs=50", "training.lr=0.02"], no_peft=NO_MAP, bf16=False),
    "houlsby": Row(
        HoulsbyConfig(width=3),
        ["training.epochs=40", "training.lr=0.02", "budget.params=7000"],
        {"bart": ["budget.rank=null", "budget.params=4870"]},
        no_peft=NON_LINEAR,
        no_merged=NON_LINEAR,
    ),
    "pfeiffer": Row(
        PfeifferConfig(width=3),
        ["training.epochs=40", "training.lr=0.02"],
        no_peft=NON_LINEAR,
        no_merged=NON_LINEAR,
        bf16=False,
    ),
    "sora": Row(SoRAConfig(max_rank=3, target_rank=2), ["training.epochs=30", "training.lr=0.02"]),
    "prilora": Row(PRILoRAConfig(mean_rank=3), ["training.epochs=30", "training.lr=0.01"], bf16=False),
    "mora": Row(
        MoRAConfig(rank=2),
        ["training.lr=0.02"],
        {"deberta": ["budget.params=1584"], "bart": ["budget.rank=null", "budget.params=3968"]},
        no_peft=SQUARE,
    ),
    "mora method.narrowing_type=1": Row(MoRAConfig(rank=2, narrowing_type=1), exports=False),
    "melora": Row(MELoRAConfig(rank=2, minis=4), ["training.lr=0.02"], bf16=False),
    "lorta": Row(LoRTAConfig(rank=5, heads=2), ["training.lr=0.05"]),
    "lora_mini": Row(LoRAMiniConfig(rank=3, inner_in=5, inner_out=6), ["training.lr=0.02"], bf16=False),
    "increlora": Row(  # test_increlora.py has the growth
        IncreLoRAConfig(init_rank=2, target_rank=2), ["training.lr=0.03", "method.alpha=32"]
    ),
    "peft method.type=LORA": Row(),  # test_peft.py has a row for each tuner
    "peft method.type=ADALORA method.config.init_r=4": Row(
        learns=["training.lr=0.03", "method.config.lora_alpha=32"], bf16=False
    ),
    "peft method.type=VERA": Row(
        None,
        ["training.epochs=40", "training.lr=0.05"],
        {"deberta": ["budget.params=3200"], "bart": ["budget.rank=null", "budget.params=4000"]},
        bf16=False,
    ),
}
CONFIGS = {name: row.config for name, row in ROWS.items() if row.config is not None}
RUNS = {name: row for name, row in ROWS.items() if row.learns is not None}
BOTTLENECK = [name for name in CONFIGS if ROWS[name].no_merged == NON_LINEAR]
LINEAR = [name for name, each in CONFIGS.items() if isinstance(each, PlacedConfig) and name not in BOTTLENECK]
BUSY = {"lora": {"orthogonality": 0.1}, "increlora": {"target_rank": 3, "initial_steps": 1, "interval": 2}}
"""Further options, so that short runs use every part of the method."""


def mostly_slow(names: Iterable[str], *keep: str) -> list[Any]:
    """The names as parameters of a test; all but those to keep are among the slow tests."""
    return [pytest.param(name, marks=[] if name in keep else pytest.mark.slow) for name in names]


def placed(name: str) -> list[str]:
    """The options that decide which modules are adapted: only a bottleneck's differ."""
    return [f"method={name}"] if name in BOTTLENECK else []


def run_of(name: str, backbone: str = "deberta") -> list[str]:
    """The options of a tiny run for a row."""
    return [*f"method={name}".split(), *ROWS[name].reaches.get(backbone, ())]
