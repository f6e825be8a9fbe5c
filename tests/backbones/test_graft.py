"""MiniLM in the DeBERTa-v2 classes computes what BERT computes."""

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from adalora.backbones.load import load_model, locate
from adalora.errors import UserError


@pytest.fixture(scope="module")
def config(request):
    compose = request.getfixturevalue("compose")
    config = compose("model=deberta_minilm", "task=r8").model
    try:
        locate(config)
    except UserError as error:
        pytest.skip(str(error))
    return config


def test_the_graft_equals_the_original(config):
    weights = locate(config)
    bert = AutoModel.from_pretrained(weights.folder).eval()
    grafted = load_model(config, weights, num_labels=2).eval().deberta
    tokenizer = AutoTokenizer.from_pretrained(weights.folder)
    texts = ["A short text.", "A longer one, with many more words in it than the first has: padding matters.", "Three"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = bert(**batch).last_hidden_state
        got = grafted(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    real = batch["attention_mask"].bool()
    assert (got - expected)[real].abs().max() < 1e-5


def test_its_position_terms_can_be_learned(config):
    model = load_model(config, locate(config), num_labels=2)
    model(torch.randint(5, 1000, (2, 8))).logits.sum().backward()
    assert model.deberta.encoder.LayerNorm.weight.grad.abs().max() > 0


def test_another_file_than_the_pinned_one_is_refused(config):
    config.package.sha256["model.safetensors"] = "0" * 64
    with pytest.raises(UserError, match="not the pinned file.*pip install"):
        locate(config)
