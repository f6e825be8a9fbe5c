"""IncreLoRA (arXiv 2308.12043)."""
