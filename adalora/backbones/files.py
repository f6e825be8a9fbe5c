"""The files of a backbone: which it needs, where they are, and what config.json says. Imports no torch."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field

from adalora.backbones.options import Model
from adalora.errors import UserError
from adalora.files.reading import Damaged, read_dict, read_json
from adalora.sources.hub import Needs, cached

REMEDY = (
    "give a folder with config, weights and tokenizer as transformers saves them (model.path=FOLDER); remove a "
    "damaged download to fetch it again"
)
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "*.model", "chat_template.jinja",
)  # fmt: skip
SAFE = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json")
LABELS = ("num_labels", "id2label", "label2id")  # transformers prints a line if they disagree
DIGEST = 2  # incremented when a backbone's digest counts more
CONFIG = ("config.json", "generation_config.json")
NEEDS: Needs = {"config.json": [CONFIG], "tokenizer": [TOKENIZER], "weights": [SAFE, PICKLED]}
Width: TypeAlias = Annotated[int, Field(ge=1, le=2**20)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=2**10)]
Vocabulary: TypeAlias = Annotated[int, Field(ge=1, le=2**24)]  # of tokens, or of positions


class Architecture(BaseModel):
    """Fields of config.json: sizes, which must be possible if they are given."""

    model_type: str
    hidden_size: Width = 1
    d_model: Width = 1
    intermediate_size: Width = 1
    encoder_ffn_dim: Width = 1
    decoder_ffn_dim: Width = 1
    max_position_embeddings: Vocabulary = 1
    vocab_size: Vocabulary = 1
    num_hidden_layers: Count = 1
    encoder_layers: Count = 1
    decoder_layers: Count = 1
    num_attention_heads: Count = 1
    num_key_value_heads: Count | None = None


@dataclass(frozen=True)
class Weights:
    """A backbone's files: folder, description, digest of the content, and the weight files."""

    folder: Path
    origin: str
    digest: str
    files: list[str]

    @property
    def every(self) -> list[Path]:
        """All files: configuration, tokenizer and weights."""
        return found(self.folder, (*CONFIG, *TOKENIZER, *self.files))


def read_values(types: Sequence[str], title: str, folder: Path) -> dict[str, Any]:
    """Read config.json, without the labels of another task.

    Raises:
        UserError: it is missing or damaged, of a type that `title` isn't, or of quantised weights.
    """
    values = read_dict(folder / "config.json", Architecture, REMEDY)
    values = {key: value for key, value in values.items() if key not in LABELS}
    if values["model_type"] not in types:
        needs = " or ".join(types)
        raise UserError(
            f"{folder / 'config.json'} has model_type {values['model_type']}, {title} needs {needs} "
            "(docs/own_model.md has the methods for any model)"
        )
    if values.get("quantization_config"):
        raise UserError(f"{folder} has quantised weights: give the model without, model.dtype=bf16 halves its memory")
    return values


def glance(model: Model, cache_dir: str) -> str:
    """Where the weights are, and their digest if it is known without downloading or loading anything."""
    if model.package and not model.path:
        return f"package {model.package.name}=={model.package.version}"
    at_hub = None if model.path or not model.hub else cached(model.hub, model.revision, "model")
    folder = Path(model.path).expanduser() if model.path else at_hub
    origin = "path" if model.path else f"hub {model.hub}@{folder.name[:10] if folder else model.revision}"
    weights = found(folder, SAFE) or found(folder, PICKLED) if folder else []
    if folder and weights and (folder / "config.json").is_file():
        with suppress(Damaged):
            known = read_json(digest_file(model, folder, weights, cache_dir), str, "remove it")
            return f"{origin}, digest {known[:10]}"
    return f"{origin}, digest unknown until they are loaded"


def digest_file(model: Model, folder: Path, weights: Sequence[Path], cache_dir: str) -> Path:
    """The cache file for the digest of a folder's backbone. Its name is a hash of config.json, of the names of the
    architecture's values that count, and of the weight files' paths, sizes and modification times."""
    stats = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
    config = (folder / "config.json").read_text()
    name = hashlib.sha256(json.dumps([DIGEST, sorted(model.config), config, *stats]).encode()).hexdigest()[:24]
    return Path(cache_dir).expanduser() / "weights" / f"{name}.json"


def found(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Files in a folder that match any of the patterns, by name."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
