"""The tasks, by name."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from search.base.phases import said_if_slow
from search.errors import UserError, expect, one_line, visible
from search.own import explain, own_module
from search.tasks import _options
from search.tasks.task import Split, Task

__all__ = ["Split", "Task", "load", "options"]


def load(definition: Mapping[str, Any]) -> Task:
    """A task by its definition, which is what a file of the config group ``task`` holds.

    Args:
        definition: ``name``, optionally ``module`` (where the function `load` is that makes the task; by default the
            module of that name in this package), and that function's arguments, which are checked against its
            annotations.

    Raises:
        UserError: no such module or argument, or what the task's own `load` raises: of a module outside this package
            every error, with the file and the line of the module where it happened.
    """
    name, module, function = _found(definition)
    given = {key: value for key, value in definition.items() if key not in ("name", "module")}

    _options.check(function, given)
    try:
        with said_if_slow(f"task {definition['name']}: preparing its data", _say):
            task = function(**given)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if module.startswith(f"{__name__}."):
            raise
        raise UserError(f"task={name}: expected {module}.load to make a task; {_why(error)}") from error
    found = type(task).__name__
    expect(isinstance(task, Task), f"task={name}: {module}.load", found, "to return a search.tasks.Task")
    expect(task.name == name, f"task={name}: name of the Task of {module}.load", task.name, name)
    return task


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)


def options(definition: Mapping[str, Any]) -> list[str]:
    """The arguments that a task takes.

    Raises:
        UserError: no such module.
    """
    return _options.names(_found(definition)[2])


def _found(definition: Mapping[str, Any]) -> tuple[str, str, Callable[..., Task]]:
    """The name of a task, and of the module that makes it, and its function."""
    expected = "a task's definition, with a name and optionally a module"
    expect(isinstance(definition, Mapping), "task", definition, expected)
    name: Any = definition.get("name")
    module: Any = definition.get("module", f"{__name__}.{name}")
    expect(isinstance(name, str) and isinstance(module, str) and bool(name and module), "task", definition, expected)
    expected = f"task={name}: expected a module {module} with a function load"
    try:
        function = own_module(module).load
    except (Exception, SystemExit) as error:
        raise UserError(f"{expected}; {_why(error)}") from error
    if not callable(function):
        raise UserError(f"{expected}, found a {type(function).__name__}")
    return name, module, function


def _why(error: BaseException) -> str:
    """What a user's module has raised, with the line of it."""
    return explain(error) or f"{one_line(error)} ({type(error).__name__})"
