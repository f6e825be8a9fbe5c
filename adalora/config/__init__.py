"""The typed configuration. Imports no torch: `--help` and composition stay instant."""

from adalora.config.register import register
from adalora.config.validate import validated

__all__ = ["register", "validated"]
