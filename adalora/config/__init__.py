"""The typed configuration. Imports no torch, so `--help` and composition are instant."""

from adalora.config.register import register
from adalora.config.validate import validate

__all__ = ["register", "validate"]
