"""Build a backbone: without weights for counting, with them for training."""

import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from adalora.backbones.graft import graft
from adalora.backbones.hub import fetch
from adalora.backbones.normaliser import with_own_normaliser
from adalora.backbones.packaged import checksum, packaged_folder
from adalora.config.schema import Model
from adalora.errors import UserError

CONFIGS: dict[str, type[PreTrainedConfig]] = {
    "deberta-v2": transformers.DebertaV2Config,
    "bart": transformers.BartConfig,
}
CLASSES: dict[tuple[str, str], type[PreTrainedModel]] = {  # by architecture and kind of task
    ("deberta-v2", "classification"): transformers.DebertaV2ForSequenceClassification,
    ("deberta-v2", "squad"): transformers.DebertaV2ForQuestionAnswering,
    ("bart", "summarization"): transformers.BartForConditionalGeneration,
}
CONTENT = ("*.safetensors", "pytorch_model*.bin", "*.json", "*.model", "vocab*", "merges*")  # what decides a model


@dataclass(frozen=True)
class Weights:
    """Where a backbone's files are: folder, how to name them, and a digest of their content.

    `comparable`: whether they are of the paper's backbone, as far as the architecture tells.
    """

    folder: Path
    origin: str
    digest: str
    comparable: bool


def architecture(model: Model, num_labels: int, folder: Path | None = None) -> PreTrainedConfig:
    """The architecture: from `folder` where there is one, else the numbers in `conf/model`.

    Raises:
        UserError: the folder has no readable config.json, or one of another architecture.
    """
    numbers = dict(model.config)
    if folder is not None and model.package is None:
        path = folder / "config.json"
        try:
            numbers = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(f"{path} can't be read ({error}): model.path needs a folder with config.json") from error
        if numbers.get("model_type") != model.model_type:
            raise UserError(
                f"{path} is of type {numbers.get('model_type')}, model={model.name} needs {model.model_type}"
            )
    if model.model_type == "deberta-v2":
        numbers |= {"num_labels": num_labels, "cls_dropout": model.classifier_dropout}
    attention = "eager" if model.model_type == "deberta-v2" else model.attention  # backbones/attention.py has DeBERTa's
    return CONFIGS[model.model_type].from_dict(numbers, attn_implementation=attention)


def check_length(model: Model, config: PreTrainedConfig, tokens: int) -> None:
    """Refuse inputs longer than the position embeddings of this architecture, where it has such. Raises `UserError`."""
    absolute = getattr(config, "position_biased_input", True)  # DeBERTaV3's positions are relative only
    if absolute and tokens > config.max_position_embeddings:
        raise UserError(
            f"task.max_length={tokens} is more than the {config.max_position_embeddings} positions of {model.title}: "
            f"set task.max_length={config.max_position_embeddings}, which cuts longer inputs"
        )


def blank(model: Model, num_labels: int, folder: Path | None = None) -> PreTrainedModel:
    """The model without weights (on the meta device): for counting and plans."""
    config = architecture(model, num_labels, folder)
    key = (model.kind, config.to_json_string())
    if key not in blanks:
        with torch.device("meta"):
            blanks[key] = CLASSES[model.model_type, model.kind](config)
    return deepcopy(blanks[key])


blanks: dict[tuple[str, str], PreTrainedModel] = {}  # building takes 50 ms, and a list of cells asks hundreds of times


def locate(model: Model) -> Weights:
    """Find the weights: `model.path`, a package, or the hub, in this order.

    Raises:
        UserError: missing or damaged; NotAvailable where the hub is away.
    """
    if model.path:
        folder, origin = Path(model.path).expanduser(), "path"
        if not folder.is_dir():
            raise UserError(f"model.path={model.path}: no such folder")
    elif model.package:
        folder = packaged_folder(model.package)
        origin = f"package {model.package.name}=={model.package.version}"
    else:
        assert model.hub, "conf/model gives a hub repository, a package or a path"
        folder = fetch(model.hub, model.revision, CONTENT, "model", "model.path=FOLDER")
        origin = f"hub {model.hub}@{folder.name}"
    files = sorted({path for pattern in CONTENT for path in folder.glob(pattern)})
    if not any(path.suffix in (".safetensors", ".bin") for path in files):
        raise UserError(f"{folder} holds no weights (*.safetensors or pytorch_model*.bin)")
    digest = hashlib.sha256("".join(checksum(path) for path in files).encode()).hexdigest()
    found = architecture(model, 2, folder).to_dict()
    alike = all(found[name] == number for name, number in model.config.items() if isinstance(number, int))
    return Weights(folder, origin, digest, model.comparable and alike)


def load_model(model: Model, weights: Weights, num_labels: int) -> nn.Module:
    """The model in fp32, its head newly initialised from torch's global generator.

    fp32 is asked for because DeBERTaV3's weights are stored in half precision on the hub (D-dtype).

    Raises:
        UserError: weights that don't fit the architecture.
    """
    config = architecture(model, num_labels, weights.folder)
    cls = CLASSES[model.model_type, model.kind]
    if model.package and not model.path:
        built = cls(config)
        graft(load_file(weights.folder / "model.safetensors"), built.base_model)
        return built
    try:
        loaded, info = cast(Any, cls).from_pretrained(  # two values, which its type doesn't say
            weights.folder, config=config, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(f"the weights in {weights.folder} can't be loaded: {str(error).splitlines()[0]}") from error
    head = tuple(f"{name}." for name in model.head)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(head))
    if missing:
        raise UserError(f"the weights in {weights.folder} lack {missing[0]} and {len(missing) - 1} more")
    return loaded


def load_tokenizer(model: Model, weights: Weights) -> PreTrainedTokenizerBase:
    """The tokenizer beside the weights. For BART a BERT one gets [CLS] and [SEP] as the ends of a text too.

    Raises:
        UserError: there is none, or it can't be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(weights.folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no tokenizer for {model.title} in {weights.folder}: {str(error).splitlines()[0]}") from error
    if model.model_type == "deberta-v2":
        tokenizer = with_own_normaliser(tokenizer, weights.folder)
    if model.model_type == "bart" and tokenizer.eos_token is None:
        tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # BART has no token types
    return tokenizer
