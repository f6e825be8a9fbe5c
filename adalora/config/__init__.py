"""The typed configuration. Imports no torch, so `--help` and composition are instant."""

from adalora.config.register import register
from adalora.config.validate import validated

__all__ = ["register", "validated"]
