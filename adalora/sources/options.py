"""Options for file sources."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class Package:
    """Files shipped by a Python package: found through its metadata, never imported."""

    name: str = MISSING  # distribution name on the package index
    version: str = MISSING
    folder: str = MISSING  # folder inside the package
    files: str | None = None  # data: file name with {split}
    gguf: str | None = None  # weights: a quantised file, converted once (backbones/gguf.py)
    install: str | None = None  # the command that installs it; None: pip's
    sha256: dict[str, str] = MISSING  # file name -> checksum


@dataclass
class Source:
    """A dataset on the hub; `files` is a pattern that contains {split}."""

    hub: str = MISSING
    revision: str = MISSING
    files: str = MISSING
