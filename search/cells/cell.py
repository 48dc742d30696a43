"""What a cell is: its equations, and what can be read off them."""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from search.errors import UserError
from search.expression import Step, trace


@dataclass(frozen=True)
class Term:
    """``matrix @ operand``, one of the matrix products that a pre-activation sums."""

    matrix: str
    operand: str


@dataclass(frozen=True)
class Preactivation:
    """``sum(terms) + bias``, one of the affine maps that feed the elementwise step."""

    terms: tuple[Term, ...]
    bias: str | None

    @staticmethod
    def parse(text: str) -> "Preactivation":
        """Reads ``"W_z x + R_z y + b_z"``: products are two words, the bias is one."""
        terms, biases = [], []
        for term in text.split("+"):
            words = term.split()
            if len(words) == 2:
                terms.append(Term(*words))
            elif len(words) == 1:
                biases.append(words[0])
            else:
                raise ValueError(f"{text!r}: expected terms 'MATRIX operand' and at most one 'bias', joined by '+'")
        if len(biases) > 1:
            raise ValueError(f"{text!r}: has more than one bias: {', '.join(biases)}")
        return Preactivation(tuple(terms), biases[0] if biases else None)


class Preactivations(Protocol):
    """What a step calls to get a pre-activation: ``pre("z")``, or ``pre("n", ry=r * past.y)``."""

    def __call__(self, name: str, /, **operands: Any) -> Any: ...


@dataclass(frozen=True)
class Cell:
    """One recurrent layer, written as its equations.

    A subclass declares its matrix products in `affine` and its per-unit parameters in `units`, and
    gives the elementwise rest in `step`. Everything else (the state, the parameters, gradients,
    kernels) is derived. Fields of the subclass are its toggles.

    Example, a tanh RNN::

        class RNN(Cell):
            def affine(self):
                return {"a": "W x + R y + b"}

            def step(self, past, pre, p):
                return {"y": tanh(pre("a"))}
    """

    def affine(self) -> dict[str, str]:
        """The pre-activations, ``{name: "W_z x + R_z y + b_z"}``.

        In a product the operand is ``x`` (the input at t), a name of the state (its value at t - 1),
        or a name that the step passes when it asks for this pre-activation.
        """
        raise NotImplementedError

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the per-unit parameters [N] that `step` reads as attributes of `p`."""
        return ()

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        """The equations of one time step, element by element.

        Args:
            past: the state at t - 1 as attributes, zero at the first step.
            pre: ``pre(name, **operands)`` is the pre-activation of that name.
            p: the per-unit parameters as attributes.

        Returns:
            the output ``y`` at t, and whatever else the next step reads from `past` or multiplies by a matrix.
        """
        raise NotImplementedError

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        """Initial value of parameter `name`, given a draw from N(0, 0.1) of its shape (PROTOCOL section 3)."""
        return normal

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check_toggle(field.name, getattr(self, field.name), hints[field.name])

    @cached_property
    def preactivations(self) -> dict[str, Preactivation]:
        """`affine`, parsed."""
        return {name: Preactivation.parse(text) for name, text in self.affine().items()}

    @cached_property
    def traced(self) -> Step:
        """`step`, recorded as an expression graph; ``traced.state`` names what the layer carries."""
        return trace(self)

    @cached_property
    def signature(self) -> str:
        """The equations as text: equal for cells that compute the same, whatever they are called."""
        step = self.traced
        return repr((self.preactivations, self.units, step.state, step.graph.nodes, step.out, step.fed))

    def parameters(self, n_inputs: int, n_units: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by name: input matrices [N, M], recurrent ones [N, N], the rest [N]."""
        shapes: dict[str, tuple[int, ...]] = {}
        for pre in self.preactivations.values():
            for term in pre.terms:
                shapes[term.matrix] = (n_units, n_inputs if term.operand == "x" else n_units)
        for pre in self.preactivations.values():
            if pre.bias:
                shapes[pre.bias] = (n_units,)
        return shapes | {name: (n_units,) for name in self.units}


class Names:
    """Values by attribute, as `Cell.step` reads its state and its per-unit parameters."""

    def __init__(self, values: Mapping[str, Any]):
        self.__dict__.update(values)


def toggles(cell: type[Cell] | Cell) -> tuple[str, ...]:
    """Names of the toggles of a cell."""
    return tuple(field.name for field in dataclasses.fields(cell))


def _check_toggle(name: str, value: object, hint: Any) -> None:
    if typing.get_origin(hint) is typing.Literal:
        legal = typing.get_args(hint)
        if value not in legal:
            raise UserError(f"{name}={value}: expected one of {', '.join(legal)}")
    elif hint is bool and not isinstance(value, bool):
        raise UserError(f"{name}={value}: expected true or false")
    elif hint is float and (isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value)):
        raise UserError(f"{name}={value}: expected a finite number")


def check(cell: Cell) -> Cell:
    """Returns the cell, or raises ValueError where its declarations contradict one another."""
    declared = [term.matrix for pre in cell.preactivations.values() for term in pre.terms]
    declared += [pre.bias for pre in cell.preactivations.values() if pre.bias]
    declared += cell.units
    for name in declared:
        if not name.isidentifier() or declared.count(name) > 1:
            raise ValueError(f"{type(cell).__name__}: {name!r} must be a name, declared once")
    if not any(term.operand == "x" for pre in cell.preactivations.values() for term in pre.terms):
        raise ValueError(f"{type(cell).__name__}: no pre-activation has a product with the input x")
    assert cell.traced  # tracing raises where step and declarations differ
    return cell
