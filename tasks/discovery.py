"""Find the types of task: every folder here."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from tasks.options import Task

if TYPE_CHECKING:
    from tasks.task_type import TaskType

TASKS: dict[str, type[Task]] = {
    module.name: import_module(f"tasks.{module.name}.options").OPTIONS
    for module in iter_modules([str(Path(__file__).parent)])
    if module.ispkg
}
"""The options class of every type of task: `OPTIONS` in tasks/<type>/options.py."""


def create(task: Task) -> "TaskType":
    """Create the type of `task`: `TASK_TYPE` in tasks/<type>/task_type.py."""
    return import_module(f"tasks.{task.type}.task_type").TASK_TYPE(task)
