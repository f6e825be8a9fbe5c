"""MiniLM in the DeBERTa-v2 and BART classes computes what BERT computes."""

import copy

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from adalora.backbones.graft import graft
from adalora.backbones.load import load_model, load_tokenizer, locate
from adalora.errors import UserError

TEXTS = ["A short text.", "A longer one, with many more words in it than the first has: padding matters.", "Three"]


def packaged(compose, name):
    config = compose(f"model={name}").backbone
    locate(config, "unused")  # `make setup` installs them, checked by their hashes
    return config


@pytest.fixture
def config(compose):
    return packaged(compose, "deberta_minilm")


@pytest.fixture(scope="module")
def bart(compose):
    """MiniLM in BART, its configuration, BERT itself, and a batch."""
    config = packaged(compose, "bart_minilm")
    weights = locate(config, "unused")
    batch = load_tokenizer(config, weights)(TEXTS, padding=True, return_tensors="pt")
    torch.manual_seed(0)
    return load_model(config, weights, 2).eval(), config, AutoModel.from_pretrained(weights.folder).eval(), batch


def test_the_graft_equals_the_original(config):
    weights = locate(config, "unused")
    bert = AutoModel.from_pretrained(weights.folder).eval()
    grafted = load_model(config, weights, num_labels=2).eval().deberta
    tokenizer = AutoTokenizer.from_pretrained(weights.folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = bert(**batch).last_hidden_state
        got = grafted(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    real = batch["attention_mask"].bool()
    assert (got - expected)[real].abs().max() < 1e-5


def test_its_position_terms_can_be_learned(config):
    model = load_model(config, locate(config, "unused"), num_labels=2)
    model(torch.randint(5, 1000, (2, 8))).logits.sum().backward()
    assert model.deberta.encoder.LayerNorm.weight.grad.abs().max() > 0


def test_another_file_than_the_pinned_one_is_refused(config):
    config.package.sha256["model.safetensors"] = "0" * 64
    with pytest.raises(UserError, match="not the pinned file.*pip install"):
        locate(config, "unused")


def test_bart_s_encoder_equals_the_original(bart):
    model, _, bert, batch = bart
    with torch.no_grad():
        expected = bert(**batch).last_hidden_state
        got = model.model.encoder(**batch).last_hidden_state
    assert (got - expected)[batch["attention_mask"].bool()].abs().max() < 5e-5


def test_bart_s_decoder_is_bert_but_for_causality_and_the_cross_attention(bart):
    """A decoder without its cross-attention's output and LayerNorm equals the original."""
    model, _, bert, _ = bart
    decoder = copy.deepcopy(model.model.decoder)
    for layer in decoder.layers:
        torch.nn.init.zeros_(layer.encoder_attn.out_proj.weight)
        layer.encoder_attn_layer_norm = torch.nn.Identity()
    ids = torch.tensor([[101]])  # one token: nothing to be causal about
    with torch.no_grad():
        expected = bert(input_ids=ids).last_hidden_state
        got = decoder(input_ids=ids, encoder_hidden_states=torch.randn(1, 3, 384)).last_hidden_state
    assert (got - expected).abs().max() < 5e-5


def test_bart_s_cross_attention_is_the_library_s_random_and_its_embeddings_are_one(bart):
    model = bart[0]
    drawn = [layer.encoder_attn.q_proj.weight for layer in model.model.decoder.layers]
    assert all(abs(weight.std().item() - 0.02) < 5e-4 for weight in drawn)
    assert not torch.equal(drawn[0], drawn[1])
    shared = model.model.shared.weight
    assert model.lm_head.weight is model.model.encoder.embed_tokens.weight is model.model.decoder.embed_tokens.weight
    assert model.lm_head.weight is shared


def test_bart_generates_between_the_tokenizer_s_own_marks(bart):
    model, config, _, batch = bart
    tokenizer = load_tokenizer(config, locate(config, "unused"))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (101, 102, 0)
    written = model.generate(**batch, max_length=6, num_beams=2)
    assert written.shape[1] <= 6
    for row in written.tolist():
        assert row[0] == 102
        assert 102 in row[1:]  # forced at full length, where it doesn't come by itself


def test_another_layout_is_refused(bart):
    model, _, bert, _ = bart
    state = {name: value for name, value in bert.state_dict().items() if "layer.5.output.dense" not in name}
    with pytest.raises(RuntimeError, match=r"no source weights for \['decoder.layers.5.fc2"):
        graft(state, model.model)


def test_bart_s_attention_is_as_asked_and_both_kinds_agree(bart):
    model, config, _, batch = bart
    config = copy.deepcopy(config)
    config.attention = "eager"
    torch.manual_seed(0)
    eager = load_model(config, locate(config, "unused"), 2).eval()
    assert (model.config._attn_implementation, eager.config._attn_implementation) == ("sdpa", "eager")
    with torch.no_grad():
        one, other = (m(**batch, labels=batch["input_ids"]).loss for m in (model, eager))
    torch.testing.assert_close(one, other)
