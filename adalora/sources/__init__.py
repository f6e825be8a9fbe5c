"""Files from elsewhere: the hub, and Python packages that ship them."""
