"""BitFit (arXiv 2106.10199)."""
