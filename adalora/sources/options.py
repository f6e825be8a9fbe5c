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
    sha256: dict[str, str] = MISSING  # file name -> checksum


@dataclass
class Source:
    """A dataset on the hub; `files` is a pattern that contains {split}."""

    hub: str = MISSING
    revision: str = MISSING
    files: str = MISSING
