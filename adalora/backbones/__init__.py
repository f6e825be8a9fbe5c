"""Backbones: where weights come from, and which of their maps are adapted."""
