"""Read tensors from safetensors files (`adalora/files/reading.py` needs no torch), and dtypes."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from adalora.files.reading import Damaged, reason


def compute_type(x: Tensor) -> torch.dtype:
    """The dtype of products with x: autocast's if it is on."""
    kind = x.device.type
    low = torch.is_autocast_enabled(kind) and x.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if low else x.dtype


def trained_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of what is trained beside a weight: the weight's, or fp32 if that has fewer bits."""
    return torch.promote_types(weight.dtype, torch.float32)


def own_dtype(x: Tensor) -> torch.autocast:
    """A context in which products on x's device have the dtype of their tensors, inside an autocast region too."""
    return torch.autocast(x.device.type, enabled=False)


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file by name. Raises `Damaged`."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise Damaged(path, "no such file", remedy, missing=True) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise Damaged(path, reason(error), remedy) from error
