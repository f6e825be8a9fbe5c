"""Paths of the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
"""The Hydra configuration."""
RESULTS = ROOT / "results"
"""Studies, runs and tables."""
PAPER = RESULTS / "paper"
"""The published numbers."""
