"""The methods, one folder each: `options.py` (options, checks, sizing; no torch) and `layer.py` (the maths).

`discovery.py` finds them. Modules next to the folders are shared. docs/extending.md shows how to add one.
"""
