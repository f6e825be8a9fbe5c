"""LoRA-Mini (arXiv 2411.15804)."""
