"""Reproduction suite for AdaLoRA (arXiv 2303.10512) and its family.

Importing this package imports neither torch nor transformers, so that composing a
configuration stays instant; `adalora.methods.<name>` holds the methods.
"""

__version__ = "0.1.0"
