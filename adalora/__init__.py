"""Reproduction suite for AdaLoRA (arXiv 2303.10512) and its family.

Importing this package imports neither torch nor transformers, so composing a configuration is instant. The methods
are in `adalora.methods.<name>`.
"""

__version__ = "0.1.0"
