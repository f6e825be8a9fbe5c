"""MoRA (arXiv 2405.12130)."""
