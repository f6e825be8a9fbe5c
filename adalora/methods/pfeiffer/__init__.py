"""Adapters of Pfeiffer et al. (arXiv 2005.00247)."""
