"""Where files come from."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class Package:
    """Files that a Python package ships: found through its metadata, never imported."""

    name: str = MISSING  # distribution name on the package index
    version: str = MISSING
    folder: str = MISSING  # path inside the package that holds the files
    files: str | None = None  # data: file name with {split}
    sha256: dict[str, str] = MISSING  # file name -> checksum


@dataclass
class Source:
    """A data set on the hub: `files` is a pattern with {split} in it."""

    hub: str = MISSING
    revision: str = MISSING
    files: str = MISSING
