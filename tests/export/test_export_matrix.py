"""Every method in every form of export, on DeBERTa and BART: the run's own logits, or one line with the reason."""

from contextlib import ExitStack

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

from adalora.backbones.position_query import base_only
from adalora.errors import UserError
from adalora.export.command import export
from adalora.methods.linear import AdaptedLinear
from adalora.run.trained import load_run
from tests.methods.matrix import ROWS, run_of
from tests.tiny import INPUTS

BY_DEFAULT = {
    "deberta": ("adalora", "mora"),
    "bart": ("increlora",),
}
BASES = {"deberta": AutoModelForSequenceClassification, "bart": AutoModelForSeq2SeqLM}
TEXTS = {"input_ids": torch.tensor([[2, 5, 6, 3], [2, 8, 3, 0]]), "decoder_input_ids": torch.tensor([[3, 7], [3, 9]])}


def pairs():
    """Every method on both backbones."""
    for method in (name for name, row in ROWS.items() if row.exports):
        for backbone, some in BY_DEFAULT.items():
            yield pytest.param(method, backbone, marks=[] if method in some else pytest.mark.slow)


def without_increments(model, inputs):
    """The logits of a model with the trained head and the backbone's original modules."""
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, AdaptedLinear):
                stack.enter_context(base_only(module))
        return model(**inputs).logits


@pytest.mark.parametrize(("method", "backbone"), pairs())
def test_an_export_gives_the_run_s_logits_or_says_why_there_is_none(
    start, tiny_run, summaries, tiny_model, tiny_bart, tmp_path, method, backbone
):
    no_peft, no_merged = ROWS[method].no_peft, ROWS[method].no_merged
    base = {"deberta": tiny_model, "bart": tiny_bart}[backbone]
    own = [*tiny_run, "model.pos_query_base_only=false"] if backbone == "deberta" else [*summaries, "task.eval_rows=1"]
    run = start(
        [
            *own,
            *run_of(method, backbone),
            "training.max_steps=10",
            "training.log_steps=10",
            "training.eval_steps=10",
        ]
    )
    trained = load_run(run)
    if method == "increlora":
        assert set(trained.method.ranks().values()) != {1}
    inputs = INPUTS if backbone == "deberta" else TEXTS
    ours = trained.model(**inputs).logits

    def close(other):
        return torch.allclose(other.eval()(**inputs).logits, ours, rtol=0, atol=1e-5)

    def exported(to):
        out = tmp_path / to
        export(run, to, out)
        text = (out / "README.md").read_text()
        assert "- Weights: of the last step, 10" in text
        return out

    def refused(to, reason):
        with pytest.raises(UserError, match=reason):
            export(run, to, tmp_path / to)
        assert not (tmp_path / to).exists()

    exported("card")
    if no_peft:
        refused("peft", no_peft)
    else:
        out = exported("peft")
        plain = BASES[backbone].from_pretrained(base, config=AutoConfig.from_pretrained(out), dtype=torch.float32)
        assert close(PeftModel.from_pretrained(plain, out))
        if not method.startswith("peft"):  # whose layers are PEFT's own
            assert not torch.allclose(without_increments(trained.model, inputs), ours, rtol=0, atol=1e-3)
    if no_merged:
        refused("merged", no_merged)
    else:
        out = exported("merged")
        assert close(BASES[backbone].from_pretrained(out))
        assert AutoTokenizer.from_pretrained(out)("a good film")["input_ids"][0] == 2


@pytest.mark.slow
def test_a_bart_with_bert_s_epsilon_isn_t_merged(start, summaries, tmp_path):
    """BartConfig can't say it, so transformers would load another function."""
    own = [option for option in summaries if not option.startswith("model.path=")]
    steps = ["training.max_steps=2", "training.eval_steps=2", "task.eval_rows=1"]
    run = start([*own, "model=bart_minilm", "method=lora", "task.name=mine", *steps])
    with pytest.raises(UserError, match="has no place for BERT's LayerNorm epsilon"):
        export(run, "merged", tmp_path / "merged")
    export(run, "peft", tmp_path / "peft")
    assert '"task=xsum"' in (tmp_path / "peft/README.md").read_text()  # not the run's own, which a reader may lack
