"""Show a run: plan, progress, result and figures, in the terminal and wandb."""
