"""Which files in a folder are a backbone's weights, and that loading them runs no code."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, DebertaV2ForSequenceClassification

from adalora.backbones import load
from adalora.backbones.files import SAFE, found, glance
from adalora.backbones.load import load_model, load_tokenizer, locate, stored_dtype, tokenizer_digest
from adalora.errors import UserError


@pytest.fixture
def backbone(compose, tiny_model, tmp_path):
    """A folder with the tiny model, and the model that names it."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    return folder, compose("task=sst2", "model=deberta", f"model.path={folder}").backbone, str(tmp_path / "cache")


class Harm:
    """Unpickling this would run a call."""

    def __reduce__(self):
        return os.mkdir, (os.environ["HARM"],)


def test_safetensors_are_preferred_and_nothing_else_counts(backbone):
    folder, model, cache = backbone
    before = locate(model, cache)
    assert before.files == ["model.safetensors"]
    zeros = {name: torch.zeros_like(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}
    torch.save(zeros, folder / "pytorch_model.bin")
    for name in ("tf_model.h5", "other.json", "optimizer.safetensors", "README.md"):
        (folder / name).write_text("{}")
    assert locate(model, cache) == before
    assert load_model(model, before, 2).base_model.embeddings.word_embeddings.weight.any()


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_same_tensors_are_the_same_weights_in_any_format(backbone):
    folder, model, cache = backbone
    digest = locate(model, cache).digest
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    head = {"classifier.weight": torch.ones(2, 32), "lm_predictions.bias": torch.ones(3)}
    named = {f"deberta.{name}": tensor for name, tensor in reversed(tensors.items())}
    torch.save(named | head, folder / "pytorch_model.bin")  # as the hub's file is
    change(folder, transformers_version="4.0", more=1)
    assert locate(model, cache).digest == digest


def test_shards_in_bf16_are_read_in_bf16(tiny_llama, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="2kB")
    names = [path.name for path in found(tmp_path, SAFE)]
    assert "model.safetensors.index.json" in names and len(names) > 2
    assert stored_dtype(tmp_path, names) == torch.bfloat16


def test_other_tensors_or_another_function_are_other_weights(backbone):
    folder, model, cache = backbone
    digest = locate(model, cache).digest
    change(folder, hidden_dropout_prob=0.0)
    dropless = locate(model, cache).digest
    tensors = load_file(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1e-6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert len({digest, dropless, locate(model, cache).digest}) == 3


@pytest.mark.parametrize("labels", [2, 3])
def test_a_head_is_new_whatever_the_files_have(backbone, tmp_path, labels):
    folder, model, cache = backbone
    weights, heads = locate(model, cache), []
    config = AutoConfig.from_pretrained(folder, num_labels=labels)
    trained = DebertaV2ForSequenceClassification.from_pretrained(folder, config=config)
    for parameter in (*trained.classifier.parameters(), *trained.pooler.parameters()):
        nn.init.constant_(parameter, 7)
    trained.save_pretrained(tmp_path / "trained")
    other = replace(model, path=str(tmp_path / "trained"))
    assert locate(other, cache).digest == weights.digest
    for each in (model, other):
        torch.manual_seed(0)
        built = load_model(each, locate(each, cache), 2)
        heads.append([*built.classifier.parameters(), *built.pooler.parameters(), torch.rand(1)])
    assert all(map(torch.equal, *heads)) and heads[0][0].std() > 0


def test_a_decoder_s_output_layer_and_activation_are_part_of_it(compose, tmp_path, tiny_llama):
    digests = set()
    for name, scale, config in (("a", 1, {}), ("b", 2, {}), ("c", 1, {"hidden_act": "gelu"})):
        folder = shutil.copytree(tiny_llama, tmp_path / name)
        change(folder, tie_word_embeddings=False, **config)
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = scale * tensors["model.embed_tokens.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        digests.add(locate(compose("model=decoder", f"model.path={folder}").backbone, str(tmp_path / "cache")).digest)
    assert len(digests) == 3


def test_a_parameter_of_another_shape_is_named(backbone):
    folder, model, cache = backbone
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.LayerNorm.weight"] = torch.ones(3)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"have encoder\.LayerNorm\.weight of shape \[3\], not \[32\]"):
        locate(model, cache)


def test_a_chat_template_is_part_of_a_tokenizer(backbone):
    folder, model, cache = backbone
    before = tokenizer_digest(load_tokenizer(model, locate(model, cache)))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert tokenizer_digest(load_tokenizer(model, locate(model, cache))) != before


def test_a_decoder_has_one_digest_under_every_name(compose, tiny_llama, tmp_path):
    model = compose("model=decoder", f"model.path={tiny_llama}").backbone
    named = replace(model, config=model.config | {"head_dim": 4})
    assert locate(named, str(tmp_path / "one")).digest == locate(model, str(tmp_path / "two")).digest


def test_a_digest_is_kept_until_a_file_changes(backbone, monkeypatch):
    folder, model, cache = backbone
    before = locate(model, cache)
    computed = []
    monkeypatch.setattr(load, "content_digest", lambda *_: computed.append(1) or "new")
    assert locate(model, cache) == before
    os.utime(folder / "model.safetensors", (1, 1))
    assert locate(model, cache).digest == locate(model, cache).digest == "new"
    assert computed == [1]


def test_a_digest_of_fewer_values_is_another_entry(backbone):
    folder, model, cache = backbone
    fewer = replace(model, config={key: value for key, value in model.config.items() if key != "layer_norm_eps"})
    assert locate(fewer, cache).digest != locate(model, cache).digest


def test_a_classifier_has_the_dropout_that_the_options_give(backbone):
    _, model, cache = backbone
    model.classifier_dropout = 0.45
    assert load_model(model, locate(model, cache), 2).dropout.p == 0.45


def test_quantised_weights_are_refused(backbone):
    folder, model, cache = backbone
    change(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(UserError, match="has quantised weights: give the model without"):
        locate(model, cache)


def test_a_dry_run_knows_the_digest_once_it_is_kept(backbone):
    folder, model, cache = backbone
    assert glance(model, cache) == "path, digest unknown until they are loaded"
    assert glance(model, cache) != f"path, digest {locate(model, cache).digest[:10]}" == glance(model, cache)
    os.utime(folder / "model.safetensors", (1, 1))
    assert "unknown" in glance(model, cache)


@pytest.mark.slow
def test_reading_weights_prints_nothing(backbone):
    """In a process of its own, as a sweep's check is, which has not silenced transformers."""
    folder, _, cache = backbone
    code = (
        "from tests.conftest import CONF; import hydra; from adalora.config import register, validate; register();"
        f"options = ['task=sst2', 'model=deberta', 'model.path={folder}'];"
        "hydra.initialize_config_dir(str(CONF), version_base='1.3');"
        "model = validate(hydra.compose('config', overrides=options), options).model;"
        f"from adalora.backbones.load import locate; locate(model, '{cache}')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_weights_that_lack_a_parameter(backbone):
    folder, model, cache = backbone
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.LayerNorm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack encoder\.LayerNorm\.weight$"):
        locate(model, cache)


def test_pickled_weights_are_read_as_tensors(backbone):
    folder, model, cache = backbone
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    weights = locate(model, cache)
    assert weights.files == ["pytorch_model.bin"]
    found = dict(load_model(model, weights, 2).base_model.named_parameters())
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_pickle_with_code_in_it_is_refused_in_one_line(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    folder, model, cache = backbone
    torch.save({"a": Harm()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="pickle") as caught:
        load_model(model, locate(model, cache), 2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()
