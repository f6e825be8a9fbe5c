"""What a task is: rows, loss, scores. A folder a type: `options.py` (no torch) and `task_type.py`.

`discovery.py` finds them; modules beside the folders are shared.
"""
