"""Records of runs, which remain when the run folders are gone."""

import json
import shutil

import pytest

from adalora.errors import UserError
from adalora.files.reading import sealed
from adalora.files.writing import sha256
from adalora.records.result import read_result
from adalora.reporting.curves import Logs
from adalora.reporting.frame import heads
from adalora.reporting.pages import gather
from adalora.sweep.records import Recorder, keep_records
from adalora.sweep.status import Content, statuses
from tests.reporting.forged import make as forged

CONTENT = Content("weights", "data")
OPTIONS = {"task": "r8", "model__name": "deberta_minilm", "model__comparable": False, "cell": "c"}
OPTIONS |= {"model__digest": "weights", "task__digest": "data"}
COMMAND = ["train.py", "task=r8", "data_root=/home/somebody/data", "run_root=/scratch/runs", "tracking=none", "seed=1"]


@pytest.fixture
def finished(tmp_path):
    """`finished(seed=2)`: the folder of a run that has ended."""

    def make(seed=1, status="done", **changes):
        result = forged(**OPTIONS | {"seed": seed, "key": f"{seed:010}"} | changes)
        result["command"] = COMMAND
        folder = tmp_path / "runs/deberta_minilm/r8/adalora/0.3M" / f"seed{seed}-{result['key']}"
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter/adapter.safetensors").write_bytes(b"weights")
        result["files"] = {"adapter/adapter.safetensors": sha256(folder / "adapter/adapter.safetensors")}
        (folder / "result.json").write_text(json.dumps(sealed(result)))
        (folder / "status").write_text(json.dumps({"status": status, "cells": [result["cell"]], "steps": 9}))
        lines = [
            {"step": 10, "train/loss": 0.5},
            {"step": 50, "eval/accuracy": 0.7},
            {"step": 90, "eval/accuracy": 0.9},
        ]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return folder

    return make


def keep(tmp_path):
    """Record what has ended; the names of the new records."""
    found = statuses(tmp_path / "runs", {"c": CONTENT}, tmp_path / "records")
    return [path.name for path in keep_records(found, tmp_path / "records")]


def test_a_record_holds_the_result_its_evaluations_and_no_path(tmp_path, finished):
    folder = finished()
    assert keep(tmp_path) == ["r8-adalora-seed1-0000000001.json"]
    record = read_result(tmp_path / "records/r8-adalora-seed1-0000000001.json")
    assert record.command == ["train.py", "task=r8", "seed=1"]
    assert record.evaluations == [{"step": 50, "eval/accuracy": 0.7}, {"step": 90, "eval/accuracy": 0.9}]
    apart = {"command": [], "evaluations": []}
    assert record.as_dict() | apart == read_result(folder).as_dict() | apart


def test_a_record_holds_the_numbers_of_every_row_and_never_text(tmp_path, finished, capsys):
    file = finished() / "predictions/test.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"text": ["a row of data"]}))
    assert keep(tmp_path) == []
    recorder = Recorder(tmp_path / "runs", {"c": CONTENT}, tmp_path / "records")
    for _ in range(2):
        recorder.look(always=True)
    assert capsys.readouterr().out.count("not recorded: ") == 1
    file.write_text(json.dumps({"bits": [1.5, 2.0], "bytes": [1, 2]}))
    assert keep(tmp_path) == ["r8-adalora-seed1-0000000001.json"]
    record = read_result(tmp_path / "records/r8-adalora-seed1-0000000001.json")
    assert record.rows == {"test": {"bits": [1.5, 2.0], "bytes": [1, 2]}}


def test_a_record_is_written_once_and_again_where_it_is_damaged(tmp_path, finished):
    finished()
    (name,) = keep(tmp_path)
    assert keep(tmp_path) == []
    path = tmp_path / "records" / name
    whole = path.read_text()
    path.write_text(whole.replace("0.8628", "0.9999"))
    assert keep(tmp_path) == [name]
    assert path.read_text() == whole


@pytest.mark.parametrize("status", ["running", "failed"])
def test_only_what_is_done_is_recorded(tmp_path, finished, status):
    finished(status=status)
    assert keep(tmp_path) == []


def test_a_run_with_a_damaged_adapter_is_not_recorded(tmp_path, finished):
    (finished() / "adapter/adapter.safetensors").write_bytes(b"other")
    assert keep(tmp_path) == []


def test_a_cell_is_done_by_its_record_of_the_same_weights_and_data_alone(tmp_path, finished):
    finished()
    keep(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    for content, name in {CONTENT: "done", Content("weights", "other"): "missing"}.items():
        assert statuses(tmp_path / "runs", {"c": content}, tmp_path / "records")["c"].name == name
    assert statuses(tmp_path / "runs", {"c": CONTENT})["c"].name == "missing"


def test_folder_and_record_are_no_two_runs(tmp_path, finished):
    finished()
    keep(tmp_path)
    assert statuses(tmp_path / "runs", {"c": CONTENT}, tmp_path / "records")["c"].remark == ""


def test_a_sweep_records_now_and_then(tmp_path, finished):
    recorder = Recorder(tmp_path / "runs", {"c": CONTENT}, tmp_path / "records")
    recorder.look(always=True)
    finished()
    recorder.look()
    assert not list((tmp_path / "records").iterdir())
    recorder.look(always=True)
    assert len(list((tmp_path / "records").iterdir())) == 1
    Recorder(tmp_path / "runs", {"c": CONTENT}, None).look(always=True)


def test_a_records_folder_that_cannot_be_written_is_one_line_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        Recorder(tmp_path / "runs", {}, tmp_path / "file" / "records")


def test_a_sweep_records_while_slurm_does_not_answer(tmp_path, finished, monkeypatch):
    def silent(root):
        raise UserError("SLURM's squeue failed")

    monkeypatch.setattr("adalora.sweep.status.queued", silent)
    finished()
    Recorder(tmp_path / "runs", {"c": CONTENT}, tmp_path / "records").look(always=True)
    assert len(list((tmp_path / "records").iterdir())) == 1


def test_tables_and_curves_are_made_of_records(tmp_path, finished):
    finished()
    keep(tmp_path)
    found = gather(tmp_path / "records")
    logs, runs = Logs(), heads(found.frame)
    assert list(runs["seed"]) == [1]
    assert list(logs.of(runs, "metrics.jsonl")["step"]) == [50, 90]
    assert logs.of(runs, "ranks.jsonl").empty
    assert logs.faults == []


def test_a_record_under_another_name_is_named(tmp_path, finished):
    finished()
    (name,) = keep(tmp_path)
    path = tmp_path / "records" / name
    path.rename(path.with_name(name.replace("seed1", "seed2")))
    finished(seed=3)
    (line,) = gather(tmp_path).skipped
    assert "says seed 1 and key 0000000001, but lies in r8-adalora-seed2-0000000001.json" in line


def test_a_recorded_cell_runs_again_by_train_alone_to_the_same_bits(start, tiny_run, tmp_path):
    command = [*tiny_run, "method=lora", "training.max_steps=6", "training.eval_steps=3"]
    root, records = tmp_path / "runs", tmp_path / "records"
    folder = start(command)
    first = read_result(folder)
    (path,) = keep_records(statuses(root, {first.cell: None}), records)
    shutil.rmtree(root)
    assert statuses(root, {first.cell: None}, records)[first.cell].name == "done"
    start(command)
    again, record = read_result(folder), read_result(path)
    assert (again.last, again.files) == (record.last, record.files)
    assert [line["step"] for line in record.evaluations] == [3, 6]
    assert str(tmp_path) not in path.read_text()
