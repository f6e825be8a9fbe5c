"""Backbones: find and load weights, and select the modules that are adapted."""
