"""Backbones: find and load weights, and select the maps that are adapted."""
