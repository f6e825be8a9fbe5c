"""Evaluation without training: a finished run, the base model, an imported adapter."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from adalora.backbones.load import locate
from adalora.config import validate
from adalora.errors import UserError
from adalora.export.command import export
from adalora.records.evaluation import read_evaluations
from adalora.records.result import read_result
from adalora.run.evaluate import load_subject
from adalora.training.build import build_accelerator
from scripts import evaluate
from tests.conftest import composed_tree

WORDS = ("good", "poor", "dull", "great")


@pytest.fixture
def questions(tmp_path):
    folder = tmp_path / "questions"
    folder.mkdir()
    for split in ("train", "validation"):
        rows = [
            {"question": f"the film was {word}", "choices": list(WORDS), "answer": i} for i, word in enumerate(WORDS)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows * 4)))
    return folder


def scored(monkeypatch, capsys, *arguments):
    """What the script prints and the record it writes."""
    monkeypatch.setattr("sys.argv", ["evaluate", *map(str, arguments)])
    capsys.readouterr()
    code = evaluate.exit_code(evaluate.main)
    captured = capsys.readouterr()
    if code:
        print(captured.err)
        return captured.err
    folder = captured.out.splitlines()[-1]
    with open(f"{folder}/evaluation.json") as file:  # noqa: PTH123 - a folder as printed
        return json.load(file)


def test_a_run_is_scored_again_and_on_another_task(start, causal_run, questions, monkeypatch, capsys):
    run = start([*causal_run, "method=adalora"])
    result = read_result(run)
    again = scored(monkeypatch, capsys, run)
    assert again["scores"] == pytest.approx({name: result.last[name] for name in ("bits_per_byte", "loss")})
    assert again["run"] == result.key
    assert again["task"]["digest"] == result.task["digest"]
    other = scored(monkeypatch, capsys, run, "task=choices", f"task.data_dir={questions}", "task.max_length=32")
    assert {*other["scores"]} == {"accuracy", "accuracy_norm", "loss"}
    assert other["adapter"] == "adalora"
    few = scored(monkeypatch, capsys, run, "task.eval_rows=3", "training.eval_batch_size=auto")
    assert few["task"]["rows"]["validation"] == 3
    assert "the film was" not in json.dumps(other)
    final = "task.eval_splits=[test,validation]", "task.final_splits=[validation]"
    chosen = scored(monkeypatch, capsys, run, *final, "task.eval_split=validation")
    assert chosen["scores"]["loss"] == pytest.approx(result.last["loss"])


def test_a_run_that_can_t_be_written_is_scored_into_another_root(start, causal_run, tmp_path, monkeypatch, capsys):
    run = start([*causal_run, "method=lora", "training.max_steps=2"])
    (run / "evaluations").write_text("in the way")
    with monkeypatch.context() as unused:
        unused.setattr("adalora.run.evaluate.evaluate", None)  # it fails before the work
        assert "choose a folder you can write to with run_root=FOLDER" in scored(monkeypatch, capsys, run)
    again = scored(monkeypatch, capsys, run, f"run_root={tmp_path}/else")
    assert again["run"] == read_result(run).key
    assert len(list((tmp_path / "else/evaluations").glob("*/evaluation.json"))) == 1


def test_a_run_of_an_experiment_is_scored_on_another_task(start, causal_run, questions, monkeypatch, capsys):
    """Though the experiment has options of its own task."""
    run = start(
        [*causal_run, "experiment=allocation", "method=lora", "task.eval_split=validation", "training.max_steps=2"]
    )
    task = ["task=choices", f"task.data_dir={questions}", "task.max_length=32"]
    assert "accuracy" in scored(monkeypatch, capsys, run, *task)["scores"]


def test_a_run_isn_t_scored_with_another_model_s_name(start, causal_run):
    options = [*causal_run, "method=lora", "training.max_steps=2"]
    run, config = start(options), validate(composed_tree(options), options)
    others = replace(locate(config.model, config.cache_dir), digest="another")
    with pytest.raises(UserError, match="was trained on .*: leave out model="):
        load_subject(config, run, others, build_accelerator(config))


def test_a_record_for_a_study_has_no_path(start, causal_run, monkeypatch, capsys, tmp_path):
    run = start([*causal_run, "method=lora", "training.max_steps=2"])
    made = scored(monkeypatch, capsys, run, "--record", tmp_path / "study")
    (found,), faults = read_evaluations(tmp_path / "study")
    assert (found.run, found.adapter, found.scores, faults) == (made["run"], "lora", made["scores"], [])
    (file,) = (tmp_path / "study/evaluations").iterdir()
    assert file.name.startswith(f"lora-{found.run}-") and str(tmp_path) not in file.read_text()
    file.write_text(file.read_text().replace('"lora"', '"adalora"', 1))
    assert read_evaluations(tmp_path / "study") == ([], [f"skipped {file.name}: its checksum differs"])


def test_rows_that_a_run_was_trained_on_are_refused(start, causal_run, monkeypatch, capsys):
    run = start([*causal_run, "method=lora", "task.held_out=12", "training.max_steps=2"])
    assert "was trained on the rest" in scored(monkeypatch, capsys, run, "task.held_out=5")
    assert scored(monkeypatch, capsys, run)["task"]["rows"]["validation"] == 12


def test_rows_held_out_are_those_of_the_training(start, causal_run, tmp_path, monkeypatch, capsys):
    (option,) = [each for each in causal_run if each.startswith("task.data_dir=")]
    folder = shutil.copytree(option.partition("=")[2], tmp_path / "copy")
    options = [each for each in causal_run if each != option]
    run = start([*options, f"task.data_dir={folder}", "method=lora", "task.held_out=12", "training.max_steps=2"])
    file, header, *rows = folder / "train.csv", *(folder / "train.csv").read_text().splitlines(keepends=True)
    for changed in (rows[:-1], rows[::-1]):
        file.write_text("".join([header, *changed]))
        assert "train has changed since" in scored(monkeypatch, capsys, run)
    shutil.copy(folder / "validation.csv", folder / "test.csv")
    assert scored(monkeypatch, capsys, run, "task.eval_split=test")["run"]
    file.write_text("".join([header, *rows]))
    assert scored(monkeypatch, capsys, run, "task.eval_rows=3")["task"]["rows"]["validation"] == 3


def test_beside_a_run_only_what_applies_to_it_is_taken(start, causal_run, monkeypatch, capsys):
    run = start([*causal_run, "method=lora", "training.max_steps=2"])
    for option in ("method=adalora", "model.dtype=bf16", "seed=2", "fast=false", "training.batch_size=2"):
        assert f"{option.partition('=')[0]}: a run has its own" in scored(monkeypatch, capsys, run, option)
    assert "--limit is for lm_eval's tasks" in scored(monkeypatch, capsys, run, "--limit", 3)


def test_the_base_model_is_the_library_s(causal_run, tiny_llama, questions, tmp_path, monkeypatch, capsys):
    task = ["task=choices", f"task.data_dir={questions}", 'task.prompt="{question}"', "task.max_length=32"]
    record = scored(monkeypatch, capsys, "model=decoder", f"model.path={tiny_llama}", f"run_root={tmp_path}", *task)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    nats = []
    for word in WORDS:
        ids = tokenizer(f"the film was {word}", add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = torch.cat([torch.tensor([[tokenizer.bos_token_id]]), ids], 1)
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -1].log_softmax(-1)
        nats.append([-logits[tokenizer.convert_tokens_to_ids(choice)].item() for choice in WORDS])
    right = sum(row.index(min(row)) == i for i, row in enumerate(nats)) / len(WORDS)
    assert record["scores"]["accuracy"] == right
    assert record["scores"]["loss"] == pytest.approx(sum(row[i] for i, row in enumerate(nats)) / 4, rel=1e-5)
    assert record["adapter"] is record["run"] is None


def test_an_imported_adapter_scores_as_the_run_that_it_is_from(start, causal_run, tmp_path, monkeypatch, capsys):
    options = [*causal_run, "method=adalora", "training.max_steps=4"]
    run = start(options)
    export(run, "peft", tmp_path / "peft", "adalora", None, None)
    given = [*options, f"run_root={tmp_path}/else", f"method.init_from={tmp_path}/peft"]
    record = scored(monkeypatch, capsys, *given)
    assert record["scores"]["bits_per_byte"] == pytest.approx(read_result(run).last["bits_per_byte"], rel=1e-5)
    assert "ADALORA" in record["adapter"]
    tensors = load_file(tmp_path / "peft/adapter_model.safetensors")
    save_file(
        {name: 2 * x for name, x in tensors.items()}, tmp_path / "peft/adapter_model.safetensors", {"format": "pt"}
    )
    other = scored(monkeypatch, capsys, *given)
    assert other["adapter"] == record["adapter"] and other["scores"] != record["scores"]
    assert len(list((tmp_path / "else").rglob("evaluation.json"))) == 2  # each has a folder of its own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=rte", "model=deberta_minilm"], "has a head that only a run has trained: give a run's folder"),
        (["no/such/run", "task=rte"], "no/such/run: no such folder"),
        (["tests", "task=rte"], "tests: has no result.json"),
        (["model=smollm2"], "give task=NAME, or the folder of a run"),
        (["one", "two"], "one run at a time"),
        (["model=smollm2", "task=igbo", "~task.others.englis"], "englis"),
        (["model=smollm2", "task=arc_eas"], "arc_easy"),
        (["model=smollm2", "tasks=arc_easy"], "make lm-eval"),
        (["model=smollm2", "tasks=arc_easy", "--record", "x"], "--record is for this suite's tasks"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, arguments, message):
    if "tasks=arc_easy" in arguments:
        monkeypatch.setattr("adalora.run.lm_eval.find_spec", lambda name: None)
    line = scored(monkeypatch, capsys, *arguments)
    assert message in line
    assert line.count("\n") == 1


def test_a_classifier_isn_t_scored_on_another_task(start, tiny_run, monkeypatch, capsys):
    run = start([*tiny_run, "task=sst2", "method=lora", "training.max_steps=2"])
    assert "it can't be evaluated on another task" in scored(monkeypatch, capsys, run, "task=cola")
