"""Adapters of Houlsby et al. (arXiv 1902.00751)."""
