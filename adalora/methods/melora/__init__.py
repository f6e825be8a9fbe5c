"""MELoRA (arXiv 2402.17263)."""
