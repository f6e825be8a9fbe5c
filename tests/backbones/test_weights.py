"""Which files in a folder are a backbone's weights, and that loading them runs no code."""

import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from adalora.backbones.load import load_model, locate
from adalora.errors import UserError
from adalora.sources import packaged


@pytest.fixture
def backbone(compose, tiny_model, tmp_path):
    """A folder with the tiny model, and the model that names it."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    packaged.checksum.cache_clear()
    yield folder, compose("task=sst2", f"model.path={folder}").backbone
    packaged.checksum.cache_clear()


class Harm:
    """Unpickling this would run a call."""

    def __reduce__(self):
        return os.mkdir, (os.environ["HARM"],)


def test_safetensors_are_preferred_and_nothing_else_counts(backbone):
    folder, model = backbone
    before = locate(model)
    assert before.files == ["model.safetensors"]
    zeros = {name: torch.zeros_like(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}
    torch.save(zeros, folder / "pytorch_model.bin")
    for name in ("tf_model.h5", "other.json", "optimizer.safetensors", "README.md"):
        (folder / name).write_text("{}")
    packaged.checksum.cache_clear()
    assert locate(model) == before
    assert load_model(model, before, 2).base_model.embeddings.word_embeddings.weight.any()
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("}", ' , "more": 1}'))
    packaged.checksum.cache_clear()
    assert locate(model).digest != before.digest


def test_pickled_weights_are_read_as_tensors(backbone):
    folder, model = backbone
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    weights = locate(model)
    assert weights.files == ["pytorch_model.bin"]
    found = dict(load_model(model, weights, 2).base_model.named_parameters())
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_pickle_with_code_in_it_is_refused_in_one_line(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    folder, model = backbone
    torch.save({"a": Harm()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"pytorch_model.bin is damaged \(it is a pickle that could run code") as caught:
        load_model(model, locate(model), 2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()
