"""Exports load in PEFT and transformers alone, and give the run's own logits."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from adalora.errors import UserError
from adalora.export.card import STOCK
from adalora.export.command import export
from adalora.records.result import read_result, write_result
from adalora.run.trained import load_config, load_run
from scripts.export import main
from tests.programs import ROOT, error_of
from tests.tiny import INPUTS

SAME = "model.pos_query_base_only=false"


def without_rank(folder, path):
    """Take a module's rank away in a run's adapter: its lambda is 0 everywhere."""
    file = folder / "adapter" / "adapter.safetensors"
    tensors = load_file(file)
    tensors[f"{path}.lora_E"].zero_()
    save_file(tensors, file)
    write_result(folder, read_result(folder))


def in_peft(out, tiny_run):
    base = tiny_run[3].partition("=")[2]
    config = AutoConfig.from_pretrained(out)
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config, dtype=torch.float32)
    return PeftModel.from_pretrained(model, out).eval()


def apart(a, b):
    return (a(**INPUTS).logits - b(**INPUTS).logits).abs().max().item()


def test_a_run_from_before_an_option_with_a_default_can_be_loaded(start, tiny_run):
    """The type of task is read, not guessed from its options."""
    run = start([*tiny_run, "method=lora", "training.max_steps=2"])
    file = run / "config.yaml"
    before = load_config(run)
    lines = file.read_text().splitlines()
    assert "  mean_length: 13.0" in lines
    file.write_text("\n".join(line for line in lines if "mean_length" not in line))
    assert load_config(run) == replace(before, task=replace(before.task, mean_length=None))
    file.write_text("\n".join(line for line in lines if "  architecture:" not in line))
    with pytest.raises(UserError, match="config.yaml is damaged"):
        load_config(run)


@pytest.mark.parametrize("kind", STOCK)
def test_the_card_of_a_packaged_backbone_has_a_task_with_the_run_s_kind_of_head(compose, kind):
    """The run's own may be in a folder that the reader doesn't have."""
    model = {"AutoModelForSeq2SeqLM": "bart_minilm", "AutoModelForCausalLM": "smollm2"}.get(kind, "deberta_minilm")
    assert compose(f"model={model}", f"task={STOCK[kind]}").task.auto_class == kind


ZERO = "deberta.encoder.layer.1.attention.self.key_proj"


def test_adalora_with_a_module_of_rank_0_in_peft(start, tiny_run, tmp_path):
    run = start([*tiny_run, SAME, "method=adalora"])
    without_rank(run, ZERO)
    ours = load_run(run).model
    assert (ours(**INPUTS).logits.abs() > 1e-2).any()
    for kind in ("adalora", "lora"):
        out = tmp_path / kind
        export(run, "peft", out, kind)
        theirs = in_peft(out, tiny_run)
        assert apart(ours, theirs) <= 1e-5  # 5.4e-7 and 4.8e-7 were seen
        config = json.loads((out / "adapter_config.json").read_text())
        if kind == "adalora":
            assert config["rank_pattern"][f"{ZERO}.lora_E"] == [False] * config["init_r"]
            assert load_file(out / "adapter_model.safetensors")[f"base_model.model.{ZERO}.lora_A"].shape[0] == 0
        else:
            assert ZERO not in config["target_modules"]
        assert theirs.config.id2label == {0: "negative", 1: "positive"}


def test_an_export_is_the_start_of_another_run_and_a_card_goes_alone(start, tiny_run, tmp_path):
    run = start([*tiny_run, SAME, "method=adalora"])
    export(run, "peft", tmp_path / "out", "adalora")
    export(run, "card", tmp_path / "card")
    text = (tmp_path / "card" / "README.md").read_text()
    for part in ("## Realised ranks", "## Loading", "Classes: negative, positive", "| accuracy |", "peft 0.21"):
        assert part in text
    more = [f"method.init_from={tmp_path / 'out'}", "training.max_steps=2", f"run_root={tmp_path}/more"]
    again = start([*tiny_run, SAME, "method=adalora", *more])
    lines = [json.loads(line) for line in (again / "metrics.jsonl").read_text().splitlines()]
    last = json.loads((run / "result.json").read_text())["last"]
    assert lines[0]["step"] == 0
    assert lines[0]["eval/accuracy"] == last["accuracy"]
    assert lines[0]["eval/loss"] == pytest.approx(last["loss"], abs=1e-5)


def test_a_query_that_skips_positions_cannot_be_exported_and_the_plan_says_so(start, tiny_run, tmp_path, capsys):
    run = start([*tiny_run, "model.pos_query_base_only=true", "method=lora", "training.max_steps=2"])
    plan = " ".join(capsys.readouterr().out.split())
    assert "with model.pos_query_base_only=false it can" in plan
    for to, message in (("peft", "PEFT can't express this adapter: .*tokens only"), ("merged", "can't be merged into")):
        with pytest.raises(UserError, match=message) as caught:
            export(run, to, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--to", "peft", "--out", "x"], "RUN"),
        (["gone", "--to", "peft", "--out", "x"], "gone/config.yaml is missing"),
        (["gone", "--to", "onnx", "--out", "x"], "onnx"),
        (["gone", "--to", "peft"], "--out"),
        (["gone", "--to", "merged", "--out", "x", "--form", "adalora"], "--form adalora is for --to peft"),
        (["gone", "--to", "peft", "--out", ROOT], "already exists"),
        (["gone", "--to", "peft", "--out", "x", "--push", "a/b"], "nothing is exported"),
    ],
)
def test_a_mistake_is_one_line(called, arguments, message):
    assert message in error_of(called(main, *arguments))


def test_a_backbone_that_has_moved(start, tiny_run, tiny_model, tmp_path):
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    shutil.copytree(tiny_model, there)
    run = start([*tiny_run, SAME, f"model.path={there}", "method=lora", "training.max_steps=2"])
    there.rename(elsewhere)
    with pytest.raises(UserError, match=r"model\.path=FOLDER"):
        export(run, "merged", tmp_path / "out")
    export(run, "merged", tmp_path / "out", backbone=str(elsewhere))
    assert (tmp_path / "out/model.safetensors").exists()
