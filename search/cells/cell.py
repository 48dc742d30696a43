"""What a cell is: its equations, and what can be read off them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np

from search.base.randomness import initial_normal
from search.cells.trace import BELOW, TIME, Step, trace
from search.expression import EquationError
from search.own import MOST, Toggled, explained

_PROBED_UNITS = 5  # of the small layer
_READ = {TIME: "the number of the step", BELOW: "the state of the layer below"}  # by a step, as attributes of `p`
OUTPUT_LAYER = ("W_out", "b_out")  # names of its parameters, which `search.network` puts beside a cell's


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
                raise EquationError(f"{text!r}: expected terms 'MATRIX operand' and at most one 'bias', joined by '+'")
        if len(biases) > 1:
            raise EquationError(f"{text!r}: has more than one bias: {', '.join(biases)}")
        operands = [term.operand for term in terms]
        for operand in operands:
            if operands.count(operand) > 1:
                raise EquationError(f"{text!r}: has two products with {operand}; one matrix does")
        return Preactivation(tuple(terms), biases[0] if biases else None)


class Preactivations(Protocol):
    """What a step calls to get a pre-activation: ``pre("z")``, or ``pre("n", ry=r * past.y)``."""

    def __call__(self, name: str, /, **operands: Any) -> Any: ...


@dataclass(frozen=True)
class Cell(Toggled):
    """One recurrent layer, written as its equations.

    A subclass declares its matrix products in `affine` and its per-unit parameters in `units`, and
    gives the elementwise rest in `step`. Everything else (the state, the parameters, gradients,
    kernels) is derived. Fields of the subclass are its toggles, each a bool, int, float or Literal.

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
        raise EquationError('missing; it gives the matrix products, e.g. {"a": "W x + R y + b"}')

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the per-unit parameters [N] that `step` reads as attributes of `p`."""
        return ()

    def constants(self, n_units: int) -> dict[str, np.ndarray]:
        """Numbers [N] that the units of a layer have and that are not trained, by the name under which `step` reads
        them as attributes of `p`; a period of each unit, say."""
        return {}

    @property
    def layers_tied(self) -> bool:
        """Whether the layers of a network but the first, which hears numbers of another kind, share their parameters;
        those of each direction by themselves."""
        return False

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        """The equations of one time step, element by element, in ``+ - * /``, ``** 2``, numbers and `search.ops`.

        Args:
            past: the state at t - 1 as attributes, zero at the first step.
            pre: ``pre(name, **operands)`` is the pre-activation of that name.
            p: the per-unit parameters and constants as attributes; as ``p.t`` the number of the step, from 0 on
                in the order in which the layer reads the sequence; and as attributes of ``p.below`` the state of the
                layer below (of the same direction) at t, which for the lowest layer is zero.

        Returns:
            the output ``y`` at t, and whatever else the next step reads from `past` or multiplies by a matrix, or the
            layer above reads.
        """
        raise EquationError('missing; it gives the equations of a time step, e.g. {"y": tanh(pre("a"))}')

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        """Initial value of parameter `name`, given a draw from N(0, 0.1) of its shape (docs/protocol.md, 3)."""
        return normal

    @cached_property
    def preactivations(self) -> dict[str, Preactivation]:
        """`affine`, parsed."""
        with explained(type(self), "affine"):
            affine = self.affine()
            if not isinstance(affine, Mapping) or not all(
                isinstance(word, str) for word in (*affine, *affine.values())
            ):
                raise EquationError('expected a dict of strings, e.g. {"a": "W x + R y + b"}')
            return {name: Preactivation.parse(text) for name, text in affine.items()}

    @cached_property
    def constant_names(self) -> tuple[str, ...]:
        """Names of the per-unit constants."""
        return tuple(self.constant_values(_PROBED_UNITS))

    def constant_values(self, n_units: int) -> dict[str, np.ndarray]:
        """What `constants` gives, in float64.

        Raises:
            UserError: that is not a dict of arrays [n_units] of finite numbers in the range of float32.
        """
        with explained(type(self), "constants"):
            given = self.constants(n_units)
            if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
                raise EquationError('expected a dict of arrays by name, e.g. {"period": 2.0 ** np.arange(n_units)}')
            for name, value in given.items():
                if np.shape(value) != (n_units,) or not (np.abs(np.asarray(value, float)) <= MOST).all():
                    raise EquationError(f"{name}: expected an array [{n_units}] of finite numbers of float32")
            return {name: np.asarray(value, float) for name, value in given.items()}

    @cached_property
    def traced(self) -> Step:
        """`step`, recorded as an expression graph; ``traced.state`` names what the layer carries."""
        with explained(type(self), "step"):
            return trace(self)

    @cached_property
    def signature(self) -> str:
        """The equations as text: equal for cells that compute the same, whatever they are called."""
        step = self.traced
        return repr((self.preactivations, self.units, step.state, step.graph.nodes, step.out, step.fed))

    @cached_property
    def fingerprint(self) -> str:
        """The equations, the initial values, the constants and whether layers are tied in 16 hexadecimal digits, the
        same on every machine.

        A hash of `signature`, of what `initial` makes of fixed draws for a small layer, and of its constants, to six
        decimals, as a library that it calls need not give the same last bits everywhere.
        """
        tied = b"tied" if self.layers_tied else b""
        return hashlib.sha256(self.signature.encode() + self.probed() + tied).hexdigest()[:16]

    def probed(self) -> bytes:
        """What `initial` makes of fixed draws for a small layer, and its constants."""
        shapes = self.parameters(n_inputs=3, n_units=_PROBED_UNITS)
        values = [self.initial_value(name, _fixed_normal(name, shape).copy()) for name, shape in shapes.items()]
        values += self.constant_values(_PROBED_UNITS).values()
        return b"".join((value.round(6) + 0.0).astype("<f8").tobytes() for value in values)  # + 0.0: there is one zero

    def initial_value(self, name: str, normal: np.ndarray) -> np.ndarray:
        """What `initial` gives.

        Raises:
            UserError: that is not an array of the same shape, of finite numbers in the range of float32.
        """
        with explained(type(self), "initial"):
            shape = normal.shape
            value = self.initial(name, normal)
            if not isinstance(value, np.ndarray) or value.shape != shape or not (np.abs(value) <= MOST).all():
                got = f"an array {list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
                expected = f"an array {list(shape)} of finite numbers of float32"
                raise EquationError(f"gives {got} for {name}; expected {expected}")
            return value

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
    """Values by attribute, as `Cell.step` reads its state, and its per-unit parameters and constants."""

    def __init__(self, values: Mapping[str, Any]):
        self.__dict__.update(values)


@cache
def _fixed_normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return initial_normal(0, name, shape)


def check(cell: Cell) -> Cell:
    """The cell, once its declarations, its equations and its initial values are known to fit together.

    Raises:
        UserError: they do not, or its code raises; one line that names the file and the line.
    """
    kind = type(cell)
    with explained(kind, "units"):
        if not isinstance(cell.units, tuple) or not all(isinstance(name, str) for name in cell.units):
            raise EquationError('expected a tuple of names, e.g. ("p_i", "p_f")')
        for name, meaning in _READ.items():
            if name in cell.units:
                raise EquationError(f"p.{name} is {meaning}; expected another name")
    with explained(kind, "constants"):
        if taken := {*_READ, *cell.units} & set(cell.constant_names):
            raise EquationError(f"p.{min(taken)} is something else; expected another name")
    with explained(kind, "affine"):
        _check_names(cell)
    with explained(kind, "step"):
        if trace(cell) != cell.traced:
            raise EquationError("has other equations when it is called again; expected the same at every time step")
    with explained(kind, "initial"):
        if cell.probed() != cell.probed():
            raise EquationError(
                "gives other values when it is called again; expected a function of `name` and `normal`"
            )
    return cell


def _check_names(cell: Cell) -> None:
    """Raises EquationError unless all that `affine` and `units` name can be told apart."""
    terms = [term for pre in cell.preactivations.values() for term in pre.terms]
    operands = {"x", "y", *(term.operand for term in terms)}
    declared = [term.matrix for term in terms]
    declared += [pre.bias for pre in cell.preactivations.values() if pre.bias]
    declared += [*cell.units, *cell.constant_names]
    for name in (*cell.preactivations, *operands, *declared):
        if not name.isidentifier():
            raise EquationError(f"{name!r} is not a name")
    for name in declared:
        if declared.count(name) > 1:
            raise EquationError(f"{name!r} must be declared once")
        if name in operands:
            raise EquationError(
                f"{name!r} is a parameter and an operand; expected terms 'MATRIX operand' of other names"
            )
        if name in OUTPUT_LAYER:
            raise EquationError(f"{name!r} is a parameter of the output layer; expected another name")
