"""Many runs: the cells of tables and studies, their status, and the sweep that runs them."""
