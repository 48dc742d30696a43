"""Classes of a user's own, of cells, rules and losses: found by their path, with their toggles checked. What is wrong
with one is told in one line: the file, the line, what stands there, and what was expected.
"""

import dataclasses
import importlib
import inspect
import linecache
import os
import sys
import sysconfig
import traceback
import typing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from search.errors import UserError, expect, one_line
from search.expression import LEGAL, EquationError

_PACKAGE = Path(__file__).parent
_LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_LONGEST = 60  # of what is shown of a source line
MOST = float(np.finfo(np.float32).max)  # of what may be trained in either dtype

Kind = TypeVar("Kind")


def imported(key: str, path: str, base: type[Kind], called: str, known: Iterable[str]) -> type[Kind]:
    """The class that ``package.module.Class`` names.

    Args:
        key: what the user typed the path for.
        path: of the class.
        base: of which it must be a subclass.
        called: by what name users know `base`.
        known: names that would have done instead.

    Raises:
        UserError: there is none, it is no such class, or its module raises.
    """
    module, _, name = path.rpartition(".")
    expected = f"{key}={path}: expected one of {', '.join(known)}, or package.module.Class"
    if not module:
        raise UserError(expected)
    try:
        kind = getattr(own_module(module), name)
    except (Exception, SystemExit) as error:  # whatever the user's module does as it is imported
        raise UserError(explain(error) or f"{expected} ({one_line(error)})") from error
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise UserError(f"{place(kind)}{key}={path}: expected a subclass of {called}")
    return kind


def own_module(name: str) -> ModuleType:
    """A module by its name, where the command may use the current folder's: of two the one there, before an installed
    one (there are libraries that install a package ``tests``).
    """
    if (here := os.getcwd()) not in sys.path:
        return importlib.import_module(name)
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


@dataclass(frozen=True)
class Toggled:
    """A class whose fields are its toggles, each a bool, int, float or Literal, and checked."""

    def __post_init__(self) -> None:
        with explained(type(self), "__init__"):
            hints = typing.get_type_hints(type(self))
            for field in dataclasses.fields(self):
                _check_toggle(field.name, getattr(self, field.name), hints[field.name])


def toggles(kind: type[Toggled] | Toggled) -> tuple[str, ...]:
    """Names of the toggles of a class."""
    return tuple(field.name for field in dataclasses.fields(kind) if field.metadata.get("toggle", True))


@contextmanager
def explained(kind: type, member: str) -> Iterator[None]:
    """Within it, what the code of a class raises becomes a UserError of one line.

    Args:
        kind: the class.
        member: that is called or read, which is named where none of the user's lines has raised.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        hint = f"; a step may use {LEGAL}" if member == "step" and not isinstance(error, EquationError) else ""
        text = explain(error, hint) or f"{place(kind, member)}{kind.__name__}.{member}: {_described(error)}"
        raise UserError(text) from error


def explain(error: BaseException, hint: str = "") -> str | None:
    """``FILE:LINE: SOURCE: what is wrong``, of the innermost of the user's lines that an error has passed.

    Args:
        error: as caught.
        hint: what to do instead, for the end of the line.

    Returns:
        None if it has not passed any.
    """
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{_shown(error.filename)}:{error.lineno}: {_shortened(error.text or '')}"
        return f"{where}: {error.msg} ({type(error).__name__})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _within(frame.filename, [_PACKAGE])]
    frames = [frame for frame in frames if Path(frame.filename).is_file()]  # none of compiled or generated code
    own = [frame for frame in frames if not _within(frame.filename, _LIBRARIES)]
    if not own:
        return None
    return f"{_shown(own[-1].filename)}:{own[-1].lineno}: {_source(own[-1])}: {_described(error)}{hint}"


def place(kind: object, member: str = "") -> str:
    """``FILE:LINE: `` of a member of a class if its code is the user's, else of the class itself; empty if unknown."""
    found = inspect.getattr_static(kind, member, None)
    code = getattr(getattr(found, "fget", found), "__code__", None)
    if code and not _within(code.co_filename, [_PACKAGE]) and Path(code.co_filename).exists():
        return f"{_shown(code.co_filename)}:{code.co_firstlineno}: "
    try:
        lines, first = inspect.getsourcelines(kind)  # type: ignore[arg-type]  # raises TypeError where it is none
        file = inspect.getfile(kind)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
    decorators = next((k for k, line in enumerate(lines) if line.lstrip().startswith(("class ", "def "))), 0)
    return f"{_shown(file)}:{first + decorators}: "


def _described(error: BaseException) -> str:
    text, name = one_line(error), type(error).__name__
    return text if isinstance(error, EquationError) or text == name else f"{text} ({name})"


def _source(frame: traceback.FrameSummary) -> str:
    """The expression that a frame was evaluating, or its first line."""
    line = linecache.getline(frame.filename, frame.lineno or 0)
    if frame.colno is None:
        return _shortened(line)
    end = frame.end_colno if frame.end_lineno == frame.lineno else None
    return _shortened(line.encode()[frame.colno : end].decode())


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _shown(file: str) -> str:
    """A path as the user would type it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _within(file: str, folders: list[Path]) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in folders)


def _check_toggle(name: str, value: object, hint: Any) -> None:
    """Raises UserError unless a value is of what a toggle is declared as."""
    if typing.get_origin(hint) is typing.Literal:
        legal = typing.get_args(hint)
        if value not in legal:
            raise UserError(f"{name}={value}: expected one of {', '.join(map(str, legal))}")
    elif hint is bool:
        expect(isinstance(value, bool), name, value, "true or false")
    elif hint is int:
        expect(isinstance(value, int) and not isinstance(value, bool), name, value, "a whole number")
    elif hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and -MOST <= value <= MOST
        expect(number, name, value, "a finite number in the range of float32")
    else:
        raise EquationError(f"toggle {name} is declared as {hint}; expected bool, int, float or Literal[...]")
