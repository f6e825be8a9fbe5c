"""Extractive question answering: windows, answers and scores."""
