"""Tensors read back from safetensors files. Apart from reading.py, which needs no torch."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from adalora.reading import Damaged, reason


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name. Raises `Damaged`."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise Damaged(path, "no such file", remedy, missing=True) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise Damaged(path, reason(error), remedy) from error
