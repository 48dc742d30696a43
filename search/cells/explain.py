"""What is wrong with a user's cell, in one line: the file, the line, what stands there, and what was expected."""

import inspect
import linecache
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.errors import UserError, one_line
from search.expression import LEGAL, EquationError

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_LONGEST = 60  # of what is shown of a source line


@contextmanager
def explained(kind: type, member: str) -> Iterator[None]:
    """Within it, what the code of a cell raises becomes a UserError of one line.

    Args:
        kind: class of the cell.
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
    frames = [frame for frame in frames if not frame.filename.startswith(("<frozen ", "<string>"))]
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
