"""SoRA (arXiv 2311.11696)."""
