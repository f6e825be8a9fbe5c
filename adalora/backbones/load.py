"""Find a backbone's weights, and build it with them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from adalora.backbones.files import (
    CONFIG,
    NEEDS,
    PICKLED,
    REMEDY,
    SAFE,
    TOKENIZER,
    Weights,
    digest_file,
    found,
    read_values,
)
from adalora.backbones.gguf import convert
from adalora.backbones.graft import graft
from adalora.backbones.normaliser import with_own_normaliser
from adalora.backbones.options import DECODERS, GENERIC, Model, differences
from adalora.backbones.outline import DEFAULTS
from adalora.errors import UserError
from adalora.files.reading import Damaged, library_reads, read_json
from adalora.files.writing import CHOOSE, write_json
from adalora.module_paths import target_paths
from adalora.sources.hub import fetch
from adalora.sources.packaged import checksum, packaged_folder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
UNUSUAL = ("hidden_act", "attention_dropout", "use_sliding_window")
"""Values of a decoder's config.json that change its function; `conf/model` has transformers' defaults."""
WINDOW = ("sliding_window", "max_window_layers", "layer_types")


def architecture(model: Model, num_labels: int, folder: Path | None = None) -> PreTrainedConfig:
    """Read the architecture from `folder` if given, else from `conf/model`.

    Raises:
        UserError: config.json is missing or damaged, or has another architecture.
    """
    values, path = dict(model.config), (folder or Path()) / "config.json"
    if folder is not None and not model.grafted:
        values = read_values([model.model_type], model.title, folder)
    if model.model_type == "deberta-v2":
        values |= {"num_labels": num_labels, "cls_dropout": model.classifier_dropout}
    # DeBERTa's other attention is in fast/attention.py
    attention = "eager" if model.model_type == "deberta-v2" else model.attention
    with library_reads(path, REMEDY):
        return transformers.CONFIG_MAPPING[model.model_type].from_dict(values, attn_implementation=attention)


def read_architecture(types: Sequence[str], title: str, folder: Path) -> dict[str, Any]:
    """All values of config.json, with transformers' defaults for those it leaves out. Raises `UserError`."""
    values = read_values(types, title, folder)
    with library_reads(folder / "config.json", REMEDY):
        return (
            DEFAULTS[values["model_type"]]
            | transformers.CONFIG_MAPPING[values["model_type"]].from_dict(values).to_dict()
        )


def model_class(model: Model) -> type[PreTrainedModel]:
    """transformers' class for the backbone with the task's head."""
    return getattr(transformers, model.architecture)


def locate(model: Model, cache_dir: str) -> Weights:
    """Find the weights: in `model.path`, a package, or the hub, in this order.

    Args:
        model: the backbone.
        cache_dir: where the digests of folders are kept.

    Raises:
        UserError: they are missing or damaged, or have another architecture than the backbone; `NotAvailable` if the
            hub can't be reached.
    """
    if model.path:
        folder, origin = Path(model.path).expanduser(), "path"
        if not folder.is_dir():
            raise UserError(f"model.path={model.path}: no such folder, give its place with model.path=FOLDER")
    elif package := model.package:
        folder, origin = packaged_folder(package), f"package {package.name}=={package.version}"
        if package.gguf:
            folder = convert(folder / package.gguf, package, cache_dir)
            origin += f", {package.gguf} dequantised"
    else:
        assert model.hub, "conf/model gives a hub repository, a package or a path"
        folder = fetch(model.hub, model.revision, NEEDS, "model", "model.path=FOLDER")
        origin = f"hub {model.hub}@{folder.name}"
    weights = found(folder, SAFE) or found(folder, PICKLED)
    if not weights:
        raise UserError(f"{folder} has no weights (model*.safetensors or pytorch_model*.bin)")
    names = [path.name for path in weights]
    if model.grafted:
        sums = [checksum(path) for path in sorted({*found(folder, (*CONFIG, *TOKENIZER)), *weights})]
        return Weights(folder, origin, hashlib.sha256("".join(sums).encode()).hexdigest(), names)
    values = read_architecture([model.model_type], model.title, folder)
    for key in differences(model.config, values):
        raise UserError(
            f"{folder / 'config.json'} has {key}={values.get(key)}, not {model.config[key]} as {model.title}: choose "
            f"model={GENERIC[model.model_type]} for another model"
        )
    entry = digest_file(model, folder, weights, cache_dir)
    try:
        digest = read_json(entry, str, "remove it")
    except Damaged:
        digest = content_digest(model, folder, names)
        write_json(entry, digest, CHOOSE.format("cache_dir"))
    return Weights(folder, origin, digest, names)


def content_digest(model: Model, folder: Path, files: list[str]) -> str:
    """SHA-256 over the backbone as it is loaded: the values of its architecture, and every parameter's name, shape and
    fp32 values, with a decoder's output layer. Trained heads and tied copies don't count, nor the files' format or
    precision."""
    config = architecture(model, 2, folder)
    untied = model.model_type in DECODERS and not config.tie_word_embeddings  # then the output layer is the model's own
    cls = transformers.AutoModelForCausalLM if untied else transformers.AutoModel
    loaded: Any = pretrained(cls, config, folder, files, stored_dtype(folder, files))
    values, usual = config.to_dict(), type(config)().to_dict()
    keys = sorted(model.config.keys() - {"head_dim"})  # which not all of one type have, and shapes say
    found = hashlib.sha256(json.dumps({key: values[key] for key in keys}).encode())
    unusual = {key: values[key] for key in UNUSUAL if key not in keys and values.get(key) != usual.get(key)}
    if unusual.get("use_sliding_window"):
        unusual |= {key: values[key] for key in WINDOW}
    if unusual:
        found.update(json.dumps(unusual).encode())
    parameters = sorted(loaded.base_model.named_parameters())
    for name, parameter in [*parameters, *([("lm_head.weight", loaded.lm_head.weight)] if untied else [])]:
        found.update(f"{name} {tuple(parameter.shape)}".encode())
        found.update(parameter.detach().float().numpy().tobytes())
    return found.hexdigest()


def stored_dtype(folder: Path, files: list[str]) -> torch.dtype:
    """bf16 if all weights are stored in it, which loads them in half the memory; else fp32."""
    stored = set()
    for name in files:
        if name.endswith(".json"):  # an index of the shards
            continue
        if not name.endswith(".safetensors"):
            return torch.float32
        with library_reads(folder / name, REMEDY), safe_open(folder / name, "pt") as tensors:
            stored |= {tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118 - not a dict
    return torch.bfloat16 if stored == {"BF16"} else torch.float32


def load_model(model: Model, weights: Weights, num_labels: int) -> nn.Module:
    """Build the model in `model.dtype`, with a new head in fp32, initialised from torch's global generator.

    fp32 is explicit because DeBERTaV3's weights on the hub are in half precision (D-dtype).

    Raises:
        UserError: the weights don't fit the architecture.
    """
    config = architecture(model, num_labels, weights.folder)
    cls = model_class(model)
    if model.grafted:
        built = cls(config)
        graft(load_file(weights.folder / "model.safetensors"), built.base_model)
        return built
    return pretrained(cls, config, weights.folder, weights.files, DTYPES[model.dtype], model.head)


def pretrained(
    cls: Any, config: PreTrainedConfig, folder: Path, files: list[str], dtype: torch.dtype, head: Sequence[str] = ()
) -> nn.Module:
    """Load weights as `dtype`, silently. The modules `head` are new, also where the files have some.

    Raises:
        UserError: the files can't be read, lack a parameter, or have one of another shape.
    """
    new, state = tuple(f"{name}." for name in head), torch.get_rng_state()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with library_reads(folder, REMEDY):
        try:
            loaded, info = cls.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=files[0].startswith("model"),
                weights_only=True,
            )
        except UnpicklingError as error:
            what = "it is a pickle that could run code when loaded"
            raise Damaged(folder / files[0], what, "convert the weights to safetensors") from error
    faults = {key: f"lack {key}" for key in info["missing_keys"]}
    faults |= {
        key: f"have {key} of shape {list(has)}, not {list(needs)}" for key, has, needs in info["mismatched_keys"]
    }
    if wrong := sorted(key for key in faults if not key.startswith(new)):
        more = f", and {len(wrong) - 1} more" if wrong[1:] else ""
        raise UserError(f"the weights in {folder} {faults[wrong[0]]}{more}")
    own = [key for key, _ in loaded.named_parameters() if key.startswith(new)]
    if not set(own) <= set(info["missing_keys"]):  # the files' head is another task's
        torch.set_rng_state(state)
        for name, module in loaded.named_modules():
            if f"{name}.".startswith(new):
                for parameter in module.parameters(recurse=False):
                    parameter._is_hf_initialized = False
                loaded._init_weights(module)
    return loaded


def load_tokenizer(model: Model, weights: Weights) -> PreTrainedTokenizerBase:
    """Load the tokenizer next to the weights. For BART, a BERT tokenizer uses [CLS] and [SEP] as start and end.

    Raises:
        UserError: it is missing or damaged.
    """
    with library_reads(weights.folder, f"it needs the tokenizer of {model.title} beside the weights"):
        tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(weights.folder)
    if model.model_type == "deberta-v2":
        tokenizer = with_own_normaliser(tokenizer, weights.folder)
    if model.model_type == "bart" and tokenizer.eos_token is None:
        tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # BART has no token types
    return tokenizer


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 over everything that a tokenizer does, without the padding and truncation of its last call."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    more = [tokenizer.special_tokens_map, tokenizer.model_input_names, tokenizer.chat_template]
    text = json.dumps([parts, *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def target_modules(built: nn.Module, model: Model) -> dict[str, nn.Linear]:
    """The linear layers named in `model.targets`, as module path -> module, layer by layer.

    The paper adapts six matrices per layer: query, key, value, the two FFN matrices, and (in the scripts, but not in
    Section 4) the attention output. That makes 72 on DeBERTaV3-base (D-targets, D-head).

    Raises:
        UserError: a path is missing or not a linear layer, or a layer lacks one.
    """
    modules = dict(built.named_modules())
    linear = {path: module for path, module in modules.items() if isinstance(module, nn.Linear)}
    return {path: linear[path] for path in target_paths(model.targets, model.title, modules, linear)}
