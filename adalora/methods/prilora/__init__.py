"""PRILoRA (arXiv 2401.11316)."""
