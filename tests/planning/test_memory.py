"""The estimate of a decoder's step against the process's growth."""

import json
import os
import subprocess
import sys

import pytest

from tests.programs import ROOT

BF16 = ("precision=bf16", "model.dtype=bf16")
AGAIN = "training.activation_checkpointing=true"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["training.batch_size=8", "task.max_length=128"],
        ["training.batch_size=8", "task.max_length=128", AGAIN],
        ["training.batch_size=2", "task.max_length=1024"],
        ["training.batch_size=2", "task.max_length=1024", AGAIN],
        ["training.batch_size=8", "task.max_length=128", *BF16],
        ["training.batch_size=8", "task.max_length=128", *BF16, AGAIN],
        ["training.batch_size=8", "task.max_length=128", "method=adalora"],
    ],
    ids=lambda options: " ".join(option.rpartition(".")[2] for option in options),
)
def test_the_estimate_is_within_30_percent(options):
    """Large blocks come from mmap, so that glibc's fragmented heap isn't measured."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.planning.peak", "task=igbo", "method=lora", *options], cwd=ROOT,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    estimated, measured = json.loads(done.stdout.splitlines()[-1])
    assert estimated == pytest.approx(measured, rel=0.3)
