"""Where the suite's own files lie: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout, where there is one."""


def shipped(checkout: str, installed: str) -> Path:
    """A folder that a wheel ships too, by its place in either."""
    folder = ROOT / checkout
    return folder if folder.is_dir() else Path(__file__).parent / installed


CONF = shipped("conf", "conf")
"""The suite's options, as files."""
PAPER = shipped("results/paper", "paper")
"""The published numbers."""
POCKET = ROOT / "results" / "pocket"
"""The pocket reproduction: its cells, records and pages."""
