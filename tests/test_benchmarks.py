"""The benchmarks run: their figures are for people to read."""

import pytest

from tests.programs import run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("bench_step.py", ["--steps", "1", "--batch", "1", "--length", "8"]),
        ("bench_memory.py", ["--methods", "lora,lorta", "--steps", "1", "--batch", "1", "--length", "8"]),
        ("bench_squad.py", ["--questions", "40", "--reference", "5"]),
    ],
)
def test_a_benchmark_runs(script, options):
    done = run(f"scripts/{script}", *options)
    assert done.code == 0, done.stderr
    assert "ratio" in done.stdout or "the same on these" in done.stdout
