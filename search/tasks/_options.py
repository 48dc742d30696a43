"""The options of a task, checked against the signature of the function that takes them."""

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from search.errors import UserError


@dataclass(frozen=True)
class Range:
    """The legal values of a whole number, as in ``Annotated[int, Range(1, 10)]``, both included."""

    low: int
    high: int


Seed = Annotated[int, Range(0, 2**63 - 1)]

_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "text", type(None): "null"}
_PLAIN: dict[Any, tuple[type, ...]] = {float: (int, float), Path: (str, Path), str: (str, Path)}


def names(load: Callable[..., Any]) -> list[str]:
    """The options that a function takes by name."""
    unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, option in inspect.signature(load).parameters.items() if option.kind not in unnamed]


def check(load: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Checks the options that a function is to be called with.

    A value must be of the annotated type: of ``int``, ``float``, ``bool``, ``str``, ``Path``, ``None``, ``Literal``,
    ``Annotated`` with `Range`, or a union of them. Other annotations say nothing.

    Raises:
        UserError: one is unknown, missing, of another type, or out of range.
    """
    options = inspect.signature(load).parameters
    others = any(option.kind is inspect.Parameter.VAR_KEYWORD for option in options.values())
    for key in given:
        if key not in names(load) and not others:
            raise UserError(f"task.{key}: no such key; expected one of {', '.join(names(load)) or 'none'}")
    for key in names(load):
        if key not in given and options[key].default is inspect.Parameter.empty:
            raise UserError(f"task.{key}: expected a value, there is none by default")
    try:
        hints = get_type_hints(load, include_extras=True)
    except Exception:  # of names that only a type checker imports
        return
    for key, value in given.items():
        if key in hints and not _fits(value, hints[key]):
            shown = value if isinstance(value, str) and value.isprintable() else repr(value)
            raise UserError(f"task.{key}={shown}: expected {_described(hints[key])}")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [extra for extra in arguments[1:] if isinstance(extra, Range)]
        return _fits(value, arguments[0]) and all(each.low <= value <= each.high for each in ranges)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if hint not in _WORDS:
        return True
    return isinstance(value, _PLAIN.get(hint, hint)) and (hint is bool or not isinstance(value, bool))


def _described(hint: Any) -> str:
    """The legal values in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [f" from {extra.low} to {extra.high}" for extra in arguments[1:] if isinstance(extra, Range)]
        return _described(arguments[0]) + "".join(ranges)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_described(each) for each in arguments))
    return _WORDS[hint]
