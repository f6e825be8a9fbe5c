"""Convert a quantised GGUF file to a folder that loads like any other."""

from pathlib import Path
from typing import Any

import torch
import transformers

from adalora.errors import UserError
from adalora.files.reading import library_reads
from adalora.files.writing import CHOOSE, new_folder
from adalora.sources.hub import say
from adalora.sources.options import Package


def convert(file: Path, package: Package, cache_dir: str) -> Path:
    """The folder in the cache with the file's weights in fp32, its architecture and its tokenizer.

    The first use converts, which takes half a minute for 135M parameters.

    Args:
        file: the GGUF file, checked.
        package: where it comes from.
        cache_dir: the cache.

    Raises:
        UserError: the package that reads GGUF is missing, the file can't be read, or the cache can't be written.
    """
    folder = Path(cache_dir).expanduser() / "weights" / f"{file.stem}-{package.sha256[file.name][:10]}"
    if folder.is_dir():
        return folder
    if not transformers.utils.is_gguf_available():
        raise UserError(f"reading {file.name} needs the package gguf: {package.install}")
    say(f"converting {file.name} into {folder}, once")
    transformers.utils.logging.disable_progress_bar()
    with library_reads(file, f"{package.install} again"):
        source: Any = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(**source)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    del model.config.quantization_config  # it isn't quantised any more
    model.hf_quantizer = None
    with new_folder(folder, replace=False, remedy=CHOOSE.format("cache_dir")) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
    return folder
