"""The methods, a folder each: `options.py` (values, checks, sizing; no torch) and `layer.py` (the maths).

`discovery.py` finds them; modules beside the folders are shared. docs/extending.md adds one.
"""
