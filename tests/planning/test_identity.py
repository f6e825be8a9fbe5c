"""A run's identity before it starts, and what its folder records."""

import json

import pytest

from adalora.errors import UserError
from adalora.planning.identity import cell_id, steps_of
from adalora.run.folder import FAILED, status_or_empty
from adalora.run.run import session


@pytest.fixture
def cell(compose):
    """`cell("task=rte")`: the identity of the committed configuration with these overrides."""
    return lambda *overrides: cell_id(compose(*overrides))


@pytest.mark.parametrize(
    "change",
    [
        "run_root=elsewhere", "tracking=none", "device=cpu", "task.data_dir=elsewhere", "model.path=elsewhere",
        "training.log_steps=7", "training.checkpoint_steps=7", "debug=true", "training.activation_checkpointing=true",
        "training.max_steps=3900",  # what 50 epochs of 2,490 rows in batches of 32 come to
        "training.warmup_steps=200",  # the recipe's value, and T is the recipe's
    ],
)  # fmt: skip
def test_what_changes_no_number_leaves_the_cell_alone(cell, change):
    assert cell("task=rte", change) == cell("task=rte")


@pytest.mark.parametrize(
    "change",
    [
        "seed=2", "precision=bf16", "budget=0.6M", "budget=0.08%", "method=lora", "method.alpha=3", "task=mrpc",
        "model=deberta_minilm", "training.lr=1e-4", "training.epochs=5", "task.eval_split=test", "task.eval_rows=100",
        "recipe=official_scripts", "fast=false",
    ],
)  # fmt: skip
def test_what_changes_a_number_or_its_place_in_a_table_changes_the_cell(cell, change):
    assert cell("task=cola", change) != cell("task=cola")


def test_splits_that_are_scored_last_change_what_every_evaluation_has(cell):
    assert cell("task=mnli", "task.final_splits=[validation_mismatched]") != cell("task=mnli")


def test_a_fraction_of_an_epoch_is_no_step_more_by_rounding(compose):
    assert steps_of(compose("training.epochs=1.1", "training.batch_size=10").training, 1000) == 110
    assert steps_of(compose("training.epochs=0.105", "training.batch_size=10").training, 1000) == 11


def test_a_length_that_the_user_set_does_not_scale_and_so_counts(cell):
    short = ("task=rte", "training.max_steps=390")
    assert cell(*short, "training.warmup_steps=200") != cell(*short)
    assert cell(*short, "training.warmup_steps=20") == cell(*short)  # what the recipe's 200 scale to


def test_methods_of_one_size_have_no_budget(cell):
    assert cell("method=full", "budget=0.6M") == cell("method=full")
    assert cell("method=lora", "budget=0.6M") != cell("method=lora")


@pytest.mark.parametrize("method", ["method=adalora", "method=lora"])
def test_a_size_is_a_number_and_not_a_name(cell, method):
    assert cell(method, "budget=0.16%") == cell(method, "budget=0.3M")
    assert cell(method, "budget=0.3M", "budget.name=mine") == cell(method, "budget=0.3M")
    same = cell(method, "budget=custom", "budget.params=331_776") == cell(method, "budget=0.3M")
    assert same == (method == "method=lora")  # 0.3M has a size of its own for AdaLoRA


def test_status_and_result_name_the_cell(start, tiny_run, prepared):
    args = [*tiny_run, "method=lora", "training.max_steps=2"]
    folder = start(args)
    expected = prepared(args).folder.cell
    assert json.loads((folder / "result.json").read_text())["cell"] == expected
    status = status_or_empty(folder)
    assert (status.status, status.cells, status.steps) == ("done", [expected], 2)


def test_other_options_that_come_to_the_same_run_are_served_by_it(start, tiny_run, prepared):
    folder = start([*tiny_run, "method=lora", "training.epochs=1"])
    other = [*tiny_run, "method=lora", "training.max_steps=6"]  # one epoch of 96 rows, not of the official 67,349
    before = (folder / "result.json").stat().st_mtime_ns
    assert start(other) == folder
    assert (folder / "result.json").stat().st_mtime_ns == before  # not repeated
    assert len(status_or_empty(folder).cells) == 2
    assert prepared(other).folder.cell in status_or_empty(folder).cells


def test_a_run_that_another_process_ended_meanwhile_is_not_repeated(start, tiny_run, prepared):
    """The status is read under the lock: this run was ready to start when the other one finished."""
    args = [*tiny_run, "method=lora", "training.max_steps=2"]
    late = prepared(args)
    folder = start(args)
    before = (folder / "result.json").stat().st_mtime_ns
    with session(late.folder, late.plan.config) as result:
        assert result is not None
        assert result["last_step"] == 2
    assert (folder / "result.json").stat().st_mtime_ns == before


def test_a_result_of_another_schema_is_run_again(start, tiny_run):
    args = [*tiny_run, "method=lora", "training.max_steps=2"]
    path = start(args) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))
    start(args)
    assert json.loads(path.read_text())["schema"] > 1


def test_a_folder_that_can_t_be_written_is_a_failed_run(start, tiny_run, prepared):
    path = prepared([*tiny_run, "method=lora"]).folder.path
    (path / "config.yaml").mkdir(parents=True)
    with pytest.raises(UserError, match="config.yaml can't be written"):
        start([*tiny_run, "method=lora"])
    assert status_or_empty(path).status == "failed"


def test_a_failure_before_there_is_a_folder_is_recorded_until_it_gets_further(start, tiny_run, tmp_path):
    args = [*tiny_run, "method=lora", "training.max_steps=2"]
    with pytest.raises(UserError, match="no such folder"):
        start([*args, f"task.data_dir={tmp_path}/nowhere"])
    (status,) = (tmp_path / "runs" / FAILED).rglob("status")
    found = status_or_empty(status.parent)
    assert found.status == "failed"
    assert "no such folder" in found.reason
    start(args)
    assert not status.exists()
