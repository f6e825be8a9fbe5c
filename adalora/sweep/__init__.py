"""Many runs: the cells of published tables, their state, and the sweep that fills them in."""
