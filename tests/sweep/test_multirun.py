"""Sweeps from the command line: the table at the end, and a failing job among good ones."""

from tests.programs import run


def multirun(*overrides):
    return run("train.py", "--multirun", *overrides, COLUMNS="200")


def test_a_sweep_ends_with_the_table_of_what_it_ran(tiny_run):
    code, output, error = multirun(*tiny_run, "method=lora", "training.max_steps=2", "seed=1,2")
    assert (code, error) == (0, "")
    table = output[output.rindex("adapter kept") :]
    assert table.count(" sst2 ") == 2


def test_a_failing_job_is_one_line_and_the_rest_goes_on(tiny_run, tmp_path):
    code, output, error = multirun(*tiny_run, "method=lora", "training.max_steps=2", "precision=fp64,fp32,fp16")
    assert code == 1
    lines = error.splitlines()
    assert len(lines) == 2, error
    assert "precision=fp64" in lines[0]
    assert "allowed are fp32" in lines[0]
    assert "precision=fp16 needs a GPU" in lines[1]
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 1
    assert output.count("failed: ") == 2
    assert "allowed are fp32" not in output  # said once


def test_dry_runs_end_with_the_table_of_plans(tmp_path):
    code, output, _ = multirun("method=adalora,lora,full", "dry_run=true", f"run_root={tmp_path}")
    assert code == 0
    table = output[output.rindex("setting") :]
    for part in ("rank 4 -> 2", "331,920", "rank 2", "331,776", "+0.0%", "183,831,552"):
        assert part in table
