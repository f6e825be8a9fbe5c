"""LoRTA (arXiv 2410.04060)."""
