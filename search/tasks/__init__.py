"""The tasks, by name."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from search.errors import UserError
from search.tasks.task import Split, Task

__all__ = ["Split", "Task", "load"]


def load(definition: Mapping[str, Any]) -> Task:
    """A task by its definition, which is what a file of the config group ``task`` holds.

    Args:
        definition: ``name``, optionally ``module`` (where the function `load` is that makes the task; by default the
            module of that name in this package), and that function's arguments.

    Raises:
        UserError: no such module or argument, or what the task's own `load` raises.
    """
    options = dict(definition)
    name = options.pop("name")
    module = options.pop("module", f"{__name__}.{name}")
    try:
        function = importlib.import_module(module).load
    except (ImportError, AttributeError) as error:
        raise UserError(f"task={name}: expected a module {module} with a function load ({error})") from error
    legal = inspect.signature(function).parameters
    for key in options:
        if key not in legal:
            raise UserError(f"task.{key}: no such key; expected one of {', '.join(legal)}")
    return function(**options)
