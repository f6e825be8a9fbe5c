"""Paths of the suite's own files: next to the package in a checkout, inside it in an installed wheel."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The root of the checkout, if there is one."""


def shipped(checkout: str, installed: str) -> Path:
    """A folder that the wheel ships too."""
    folder = ROOT / checkout
    return folder if folder.is_dir() else Path(__file__).parent / installed


CONF = shipped("conf", "conf")
"""The Hydra configuration."""
PAPER = shipped("results/paper", "paper")
"""The published numbers."""
RESULTS = ROOT / "results"
"""Studies, runs and tables; an installed wheel has none."""
