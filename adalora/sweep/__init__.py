"""Many runs: the cells of tables and studies, their state, and the sweep that runs them."""
