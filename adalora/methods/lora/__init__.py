"""LoRA (arXiv 2106.09685)."""
