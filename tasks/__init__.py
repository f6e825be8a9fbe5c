"""Tasks: rows, loss and scores. One folder per type: `options.py` (no torch) and `task_type.py`.

`discovery.py` finds them. Modules next to the folders are shared.
"""
