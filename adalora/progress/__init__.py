"""How a run goes: plan, live lines, result and pictures, for the terminal and wandb."""
