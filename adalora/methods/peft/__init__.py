"""Tuners of the PEFT library."""
