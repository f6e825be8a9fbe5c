"""AdaLoRA (arXiv 2303.10512)."""
