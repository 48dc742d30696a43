"""The tasks, by name."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from search.errors import UserError
from search.progress import said_if_slow
from search.tasks.task import Split, Task

__all__ = ["Split", "Task", "load", "options"]


def load(definition: Mapping[str, Any]) -> Task:
    """A task by its definition, which is what a file of the config group ``task`` holds.

    Args:
        definition: ``name``, optionally ``module`` (where the function `load` is that makes the task; by default the
            module of that name in this package), and that function's arguments.

    Raises:
        UserError: no such module or argument, or what the task's own `load` raises.
    """
    legal = options(definition)
    given = {key: value for key, value in definition.items() if key not in ("name", "module")}
    for key in given:
        if key not in legal:
            raise UserError(f"task.{key}: no such key; expected one of {', '.join(legal)}")
    with said_if_slow(f"task {definition['name']}: preparing its data", _say):
        return _function(definition)(**given)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def options(definition: Mapping[str, Any]) -> list[str]:
    """The arguments that a task takes.

    Raises:
        UserError: no such module.
    """
    return list(inspect.signature(_function(definition)).parameters)


def _function(definition: Mapping[str, Any]) -> Callable[..., Task]:
    name = definition["name"]
    module = definition.get("module", f"{__name__}.{name}")
    try:
        return importlib.import_module(module).load
    except (ImportError, AttributeError) as error:
        raise UserError(f"task={name}: expected a module {module} with a function load ({error})") from error
