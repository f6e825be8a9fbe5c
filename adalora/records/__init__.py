"""Records of runs, published numbers, and what tells them apart."""
