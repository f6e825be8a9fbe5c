"""Causal language modelling: adapt a decoder to text."""
