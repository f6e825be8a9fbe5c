"""A decoder's adapter with its output layer and embeddings, from PEFT into a run and back."""

import json
import os
import re
import stat

import pytest
import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from adalora.errors import UserError
from adalora.export.command import export
from adalora.records.result import read_result
from adalora.run.trained import load_run
from tests.tiny import decoder

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WHOLE = ["lm_head", "model.embed_tokens"]
IDS = {"input_ids": torch.tensor([[2, 5, 6, 7], [2, 8, 9, 4]])}


@pytest.fixture(params=["olmo2", pytest.param("tied", marks=pytest.mark.slow)])
def base(request, tiny_llama, tmp_path):
    """A folder with a tiny Olmo2, or a Llama with tied embeddings."""
    if request.param == "tied":
        return tiny_llama
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.save_pretrained(tmp_path / "olmo2")
    decoder("olmo2", vocab_size=len(tokenizer)).float().save_pretrained(tmp_path / "olmo2")
    return tmp_path / "olmo2"


def published(base, folder, tied=False):
    """An adapter of the published ones' form: AdaLoRA that was never pruned, with output layer and embeddings."""
    torch.manual_seed(1)
    config = AdaLoraConfig(
        init_r=6, target_r=4, lora_alpha=12, tinit=10, tfinal=20, deltaT=5, total_step=100, target_modules=MODULES,
        modules_to_save=["lm_head", "embed_tokens"], task_type="CAUSAL_LM",
    )  # fmt: skip
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
        embeddings = model.get_input_embeddings().weight
        embeddings.add_(torch.randn_like(embeddings) / 10)
        output = model.get_output_embeddings().weight
        output.copy_(embeddings) if tied else output.add_(torch.randn_like(output) / 10)
    model.save_pretrained(folder)
    return model.eval()


def tied(base):
    return AutoModelForCausalLM.from_pretrained(base).config.tie_word_embeddings


def test_the_published_adapters_form_comes_in_and_goes_out(start, causal_run, base, tmp_path, capsys):
    theirs = published(base, tmp_path / "adapter", tied(base))
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["rank_pattern"] is None
    args = [
        *causal_run, f"model.path={base}", "method=adalora", f"method.init_from={tmp_path / 'adapter'}",
        "budget.rank=4", "training.max_steps=20", "training.lr=1e-30", "method.orthogonality=0",
        f"task.train_modules=[{','.join(WHOLE)}]",
    ]  # fmt: skip
    run = start([*args, "method.target_rank=6", "budget.rank=6"])  # nothing to prune, no rate to speak of
    plan = " ".join(capsys.readouterr().out.split())
    assert "starts from adapter: ADALORA, initial rank 6, never pruned, 14 modules, with lm_head" in plan
    trained, result = load_run(run), read_result(run)
    vocabulary, width = trained.model.get_input_embeddings().weight.shape
    assert result.parameters["modules"] == (1 if tied(base) else 2) * vocabulary * width
    assert result.parameters["head"] == 0
    expected = theirs(**IDS).logits
    assert (trained.model(**IDS).logits - expected).abs().max() < 1e-4

    for form in ("lora", "adalora"):
        export(run, "peft", tmp_path / form, form)
        again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / form)).eval()
        assert (again(**IDS).logits - expected).abs().max() < 1e-4
    export(run, "merged", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert (merged(**IDS).logits - expected).abs().max() < 1e-4

    pruned = start([*args, f"run_root={tmp_path}/pruned", "method.initial_steps=2", "method.final_steps=4"])
    assert sum(read_result(pruned).ranks.values()) == 4 * 14


def test_modules_that_the_run_doesn_t_train_are_refused(start, causal_run, tiny_llama, tmp_path):
    published(tiny_llama, tmp_path / "adapter", tied=True)
    args = [*causal_run, "method=adalora", f"method.init_from={tmp_path / 'adapter'}", "budget.rank=4"]
    with pytest.raises(UserError, match=r"list its module in task\.train_modules"):
        start(args)
    published(tiny_llama, tmp_path / "adapter")
    with pytest.raises(UserError, match="differ there"):
        start([*args, f"task.train_modules=[{','.join(WHOLE)}]"])


@pytest.mark.parametrize(
    ("module", "message"),
    [("lm_haed", "no module lm_haed; it has lm_head"), ("model.layers.0.mlp", "trained anyway"), ("''", "no module")],
)
def test_a_module_that_can_t_be_trained_fully_is_refused(start, causal_run, module, message):
    with pytest.raises(UserError, match=message):
        start([*causal_run, "method=lora", f"task.train_modules=[{module}]"])


def test_exported_files_have_the_user_s_permissions_and_no_path(start, causal_run, tiny_llama, tmp_path):
    run = start([*causal_run, "method=adalora", "training.max_steps=4"])
    before = os.umask(0o022)
    try:
        for to in ("peft", "merged"):
            export(run, to, tmp_path / to)
    finally:
        os.umask(before)
    files = [file for to in ("peft", "merged") for file in (tmp_path / to).iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o644}
    for file in files:
        if file.suffix in (".md", ".json"):
            assert not any(str(path) in file.read_text() for path in (tmp_path, tiny_llama)), file
    assert "model.generate" in (tmp_path / "peft" / "README.md").read_text()


def test_a_card_s_code_runs_with_weights_in_bf16(start, causal_run, tmp_path, monkeypatch, capsys):
    run = start(
        [
            *causal_run,
            "method=mora",
            "budget.rank=null",
            "budget.params=784",
            "model.dtype=bf16",
            "precision=bf16",
            "training.max_steps=2",
        ]
    )
    export(run, "card", tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.S)
    monkeypatch.chdir(run.parent)
    capsys.readouterr()
    exec(code, {})  # noqa: S102 - the card is ours
    assert capsys.readouterr().out.strip()
