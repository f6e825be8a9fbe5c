"""scripts.reproduce as a person runs it."""

import pytest

from scripts.reproduce import main
from tests.programs import error_of


def test_the_list_needs_neither_weights_nor_data_nor_network(called, tmp_path):
    only = "task=rte method=adalora,full"
    asked = ("list", "glue", "--only", only, "--seeds", "1,2", f"run_root={tmp_path}")
    code, output, error = called(main, *asked, "--format", "table")
    assert (code, error) == (0, "")
    lines = output.splitlines()
    assert sum(line.startswith("missing ") for line in lines) == 6
    (line,) = [line for line in lines if "method=adalora budget=1.2M" in line and "seed=2" in line]
    assert "1,327,680" in line  # 72 modules at mean rank 8, d_in + d_out + 1 a rank
    assert line.endswith(f"python train.py task=rte method=adalora budget=1.2M run_root={tmp_path} seed=2")
    total = "Table 1 of the AdaLoRA paper: 6 cells (6 missing); 23,400 steps"  # 6 x 3,900
    assert total in output
    code, output, error = called(main, *asked)
    assert (code, error) == (0, "")
    head, full, adalora, *_ = (line.split() for line in output.splitlines())
    assert head == ["task", "method", "budgets", "cells", "done", "left"]
    assert full[:5] == ["rte", "full", "any", "2", "0"]
    assert adalora[:6] == ["rte", "adalora", "0.3M,", "1.2M", "4", "0"]
    assert total in output
    assert "(SEEDS=1)" in output


def test_commands_are_printed_and_nothing_else(called):
    code, output, error = called(main, "list", "glue", "--format", "commands", "--seeds", "1", "training.max_steps=5")
    assert (code, error) == (0, "")
    lines = output.splitlines()
    assert len(lines) == len(set(lines)) == 96
    assert all(line.startswith("python train.py task=") and "training.max_steps=5" in line for line in lines)


@pytest.mark.parametrize(
    "args, message",
    [
        (
            ["list", "gleu"],
            "WHAT=gleu: allowed are glue, squad, summarization, ablations, increlora, decoders",
        ),
        (["list", "glue", "--only", "tsk=rte"], "matches no cell: cells have the options budget, method, task"),
        (["list", "glue", "--only", "task=RTE"], "ONLY='task=RTE' matches no cell: task is mnli, "),
        (["list", "glue", "--format", "commands", "seed=7"], "seed= is for single runs: give SEEDS=1,2,3"),
        (["list", "glue", "--format", "commands", "training.lr=abc"], "training.lr=abc: a number is needed"),
        (
            ["list", "glue", "model.config.hidden_size=512"],
            "model.config.hidden_size=512: the architecture is that of the",
        ),
        (["list", "glue", "--seeds", "a"], "a: give seeds as 1,2,3"),
        (["list", "glue", "--sedes", "1"], "unrecognized arguments: --sedes 1"),
        (["run", "glue", "--slurm", "partition=gpu"], "SLURM= and DETACH= are for jobs: add LAUNCHER=slurm"),
        (["run", "glue", "--launcher", "slurm", "--workers", "2"], "give SLURM='array_parallelism=2'"),
        (["run", "pocket", "--out", "tables"], "--out is for a paper's tables: the pages of pocket are written beside"),
        (
            ["run", "glue", "--only", "task=rte method=full", "dry_run=true"],
            "dry_run=true runs nothing: make list WHAT=",
        ),
        (["list", "glue", "--only", "task=rte method=full", "precision=fp64"], "allowed are fp32, tf32, bf16, fp16"),
    ],
)
def test_a_mistake_is_one_line(called, args, message):
    done = called(main, *args)
    assert done.stdout == ""
    assert message in error_of(done)
