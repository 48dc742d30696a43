"""A cell that is written as text: a variant of equations instead of a class."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from search.base.keys import shown
from search.cells.cell import Cell, Preactivation, Preactivations, Term, check
from search.cells.equations import FORGOTTEN, FUNCTIONS, Equations, Line, Part, direct, terms
from search.cells.parser import parse, wrong
from search.cells.trace import TIME, Step, trace
from search.errors import UserError, expect, one_line
from search.expression import EquationError
from search.own import MOST

KEYS = ("equations", "initial", "constants")  # of a variant file that holds such a cell


@dataclass(frozen=True)
class TextCell(Cell):
    """A cell of equations as text, which `search.cells.parser` explains.

    A past value that is added to matrix products is read before they are made, as by `search.cells.LSTM`, whose
    signature its equations as text therefore have; numbers do not depend on it.

    Args:
        equations: the text.
        added: by parameter what is added to the draw at initialisation, as (name, number).
        repeated: the per-unit constants, as (name, numbers); the units are divided among the numbers in equal blocks.

    Raises:
        UserError: they are not equations of a cell; one line that names line and character.
    """

    equations: str = field(metadata={"toggle": False})
    added: tuple[tuple[str, float], ...] = field(default=(), metadata={"toggle": False})
    repeated: tuple[tuple[str, tuple[float, ...]], ...] = field(default=(), metadata={"toggle": False})

    def __post_init__(self) -> None:
        legal = self.parameters(1, 1)
        for name, _ in self.added:
            expect(name in legal, "initial", name, f"parameters among {', '.join(legal)}")
        assert self.traced  # which raises where it cannot be

    @cached_property
    def parsed(self) -> Equations:
        """The equations as a tree."""
        return parse(self.equations, [name for name, _ in self.repeated])

    @cached_property
    def schedule(self) -> tuple[Line, ...]:
        """The lines, and between them past values that are read first."""
        lines = []
        for line in self.parsed.lines:
            lines += [Line(FORGOTTEN, part) for part in dict.fromkeys(_added_past(line.part))]
            lines.append(line)
        return tuple(lines)

    def affine(self) -> dict[str, str]:
        return {name: " + ".join(_words(pre)) for name, pre in self.preactivations.items()}

    @cached_property
    def preactivations(self) -> dict[str, Preactivation]:
        found = {}
        for part in self.parsed.preactivations:
            products = [arg for arg in part.args if arg.op == "product"]
            terms = tuple(Term(arg.name, arg.key or arg.args[0].name or "x") for arg in products)
            found[part.name] = Preactivation(terms, next((arg.name for arg in part.args if arg.op == "bias"), None))
        return found

    @property
    def units(self) -> tuple[str, ...]:
        return self.parsed.units

    def constants(self, n_units: int) -> dict[str, np.ndarray]:
        return {
            name: np.array([values[k * len(values) // n_units] for k in range(n_units)])
            for name, values in self.repeated
        }

    @cached_property
    def traced(self) -> Step:
        try:
            return trace(self)
        except EquationError as error:
            raise UserError(f"equations: {error}") from error

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for line in self.schedule:
            values[line.name] = _value(line.part, values, past, pre, p)
        return {name: value for name, value in values.items() if name != FORGOTTEN}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        return normal + dict(self.added)[name] if name in dict(self.added) else normal


def define(definition: Mapping[str, Any]) -> TextCell:
    """The cell of a variant, ``{"equations": text, "initial": {parameter: number}, "constants": {name: numbers}}``.

    Raises:
        UserError: it is none.
    """
    for key in definition:
        if key not in KEYS:
            raise UserError(f"{key}: a cell of equations has no such key; expected one of {', '.join(KEYS)}")
    text = definition["equations"]
    expect(isinstance(text, str), "equations", shown(text), "a text, with one line for each value")
    given: dict[str, dict[str, Any]] = {}
    for key, legal, expected in (
        ("initial", _is_number, "a finite number of float32, which is added to the draw"),
        ("constants", _is_numbers, "a list of finite numbers of float32"),
    ):
        values = definition.get(key, {})
        expect(isinstance(values, Mapping), key, shown(values), "a mapping by name")
        for name, value in values.items():
            expect(isinstance(name, str) and name.isidentifier(), key, shown(name), "names")
            expect(legal(value), f"{key}.{name}", shown(value), expected)
        given[key] = dict(values)
    added = tuple((name, float(value)) for name, value in given["initial"].items())
    repeated = tuple((name, tuple(map(float, values))) for name, values in given["constants"].items())
    return _checked(text, added, repeated)


@lru_cache(maxsize=4096)  # of some 20 KB; a study of many cells asks for each of them again and again
def _checked(text: str, added: tuple[Any, ...], repeated: tuple[Any, ...]) -> TextCell:
    cell = TextCell(text, added, repeated)
    check(cell)
    return cell


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST <= value <= MOST


def _is_numbers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_number, value))


def _words(pre: Preactivation) -> list[str]:
    return [*(f"{term.matrix} {term.operand}" for term in pre.terms), *([pre.bias] if pre.bias else [])]


def _added_past(part: Part) -> list[Part]:
    """The past values in the sums with matrix products in a part."""
    sums = [terms(each) for each in part.walk() if each.op in ("add", "sub")]
    beside = [[p for _, p in each if p.op != "pre"] for each in sums if any(p.op == "pre" for _, p in each)]
    return [past for parts in beside for each in parts for past in _read(each)]


def _read(part: Part) -> list[Part]:
    """The past values that a part reads; those of which it takes products alone are not among them."""
    if part.op == "past":
        return [part]
    return [] if direct(part) else [past for arg in part.args for past in _read(arg)]


def _value(part: Part, values: Mapping[str, Any], past: Any, pre: Preactivations, p: Any) -> Any:
    """A part's value, given those of the lines above it."""

    def of(each: Part) -> Any:
        match each.op:
            case "number":
                return each.value
            case "past":
                return getattr(past, each.name)
            case "below":
                return getattr(p.below, each.name)
            case "line":
                return values[each.name]
            case "unit" | "constant" | "time":
                return getattr(p, each.name or TIME)
            case "pre":
                return pre(each.name, **{a.key: of(a.args[0]) for a in each.args if a.key})
        args = [of(arg) for arg in each.args]
        if each.op in FUNCTIONS and all(isinstance(arg, float) for arg in args):
            wrong(each.place, f"{each.op} of numbers alone; expected a value of the step among them")
        try:
            return OPERATORS[each.op](*args)
        except (EquationError, ArithmeticError) as error:
            wrong(each.place, f"{one_line(error)}; expected finite numbers")

    return of(part)


OPERATORS: Mapping[str, Callable[..., Any]] = FUNCTIONS | {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "square": lambda v: v**2,
}
