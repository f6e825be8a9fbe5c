"""Plan a run: the size for a budget, its cost, and what identifies it."""
