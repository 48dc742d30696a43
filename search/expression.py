"""Equations as a small expression graph: run once on symbols they leave a record of what they do.

Cells (`search.cells.trace`) and update rules (`search.rules.trace`) are traced to such graphs, which is what compiled
engines print. `adjoints` is reverse-mode differentiation on them.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Union

import numpy as np

Operand = Union["Expr", float, int]
LEGAL = "numbers, + - * /, ** 2 and the operations of search.ops: exp, maximum, sigmoid, sqrt, tanh, where, ..."


class EquationError(ValueError):
    """Equations contradict one another, or do what a step cannot."""


@dataclass(frozen=True)
class Node:
    """One value of the step.

    `op` is an operation of `OPERATIONS` on the nodes `args`, ``const`` (its `value`), or a leaf read from outside. The
    leaves of a cell's step:

    - ``past`` NAME: the state at t - 1
    - ``pre`` NAME: a pre-activation; `args` are the operands that the step passes to it
    - ``unit`` NAME: a per-unit parameter
    - ``constant`` NAME: a per-unit constant
    - ``below`` NAME: the state of the layer below at t
    - ``adjoint`` NAME: d loss / d state at t, everything after t included (backward only)
    - ``fed`` NAME.OPERAND: matrix^T @ d loss / d pre NAME, for an operand that the step passes (backward only)

    ``time`` is the number of the step, from 0 on, as a layer counts them; in an update rule it is that of the update.

    Those of an update rule:

    - ``gradient``, ``weight``, ``slot`` NAME: of the weight that is updated
    - ``hyper`` NAME, ``scale``: numbers that all weights share

    Those of a loss are ``output`` and ``target``.
    """

    op: str
    args: tuple[int, ...] = ()
    name: str = ""
    value: float = 0.0


LEAVES: tuple[str, ...] = ("const", "past", "pre", "unit", "adjoint", "fed", "gradient", "weight", "slot")
LEAVES += ("hyper", "time", "scale", "output", "target", "constant", "below")


@dataclass
class Graph:
    """Nodes in an order in which each comes after its arguments; equal nodes are one node.

    Attributes:
        nodes: the values.
        units: whether these are of the units of a layer, over which there is a mean.
    """

    nodes: list[Node] = field(default_factory=list)
    units: bool = False
    _index: dict[Node, int] = field(default_factory=dict)

    def add(self, node: Node) -> "Expr":
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
        return Expr(self, self._index[node])

    def leaf(self, op: str, name: str) -> "Expr":
        return self.add(Node(op, name=name))

    def const(self, value: float) -> "Expr":
        if not math.isfinite(value):
            raise EquationError(f"makes the constant {value}; expected a finite number")
        return self.add(Node("const", value=float(value)))

    def operand(self, value: Operand) -> "Expr":
        """`value` as a node of this graph.

        Raises:
            EquationError: it is neither a node of this graph nor a finite number.
        """
        if isinstance(value, Expr):
            if value.graph is not self:
                raise EquationError("a value that was kept from an earlier call of step; only `past` reaches back")
            return value
        if not isinstance(value, int | float | np.integer | np.floating):
            kind = "None" if value is None else f"a {type(value).__name__}"
            raise EquationError(f"expected a value of the step or a number, not {kind}; a step may use {LEGAL}")
        return self.const(float(value))


@dataclass(frozen=True, eq=False)
class Expr:
    """A node of a graph under construction, with the arithmetic of a number."""

    graph: Graph = field(repr=False)
    index: int

    # Without these NumPy would take it for an array of one object: np.tanh(f) and np.mean(f) would seem to work.
    __array_ufunc__ = None

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise EquationError(f"a step is not for NumPy; it may use {LEGAL}")

    @property
    def node(self) -> Node:
        return self.graph.nodes[self.index]

    def _binary(self, op: str, other: Operand, swap: bool = False) -> "Expr":
        operand = self.graph.operand(other)
        a, b = (operand, self) if swap else (self, operand)
        simple = _simplify(op, a, b)
        return self.graph.add(Node(op, (a.index, b.index))) if simple is None else simple

    def _unary(self, op: str) -> "Expr":
        return self.graph.add(Node(op, (self.index,)))

    def __add__(self, other: Operand) -> "Expr":
        return self._binary("add", other)

    def __radd__(self, other: Operand) -> "Expr":
        return self._binary("add", other, swap=True)

    def __sub__(self, other: Operand) -> "Expr":
        return self._binary("sub", other)

    def __rsub__(self, other: Operand) -> "Expr":
        return self._binary("sub", other, swap=True)

    def __mul__(self, other: Operand) -> "Expr":
        return self._binary("mul", other)

    def __rmul__(self, other: Operand) -> "Expr":
        return self._binary("mul", other, swap=True)

    def __truediv__(self, other: Operand) -> "Expr":
        return self._binary("div", other)

    def __rtruediv__(self, other: Operand) -> "Expr":
        return self._binary("div", other, swap=True)

    def __pow__(self, exponent: object) -> "Expr":
        if not isinstance(exponent, int | float) or exponent != 2:
            raise EquationError(f"write a power as a product; a step may use {LEGAL}")
        return self * self

    def __neg__(self) -> "Expr":
        return self._unary("neg")

    # What `search.ops` asks of its arguments.

    def sigmoid(self) -> "Expr":
        return self._unary("sigmoid")

    def tanh(self) -> "Expr":
        return self._unary("tanh")

    def relu(self) -> "Expr":
        return self._unary("relu")

    def exp(self) -> "Expr":
        return self._unary("exp")

    def log(self) -> "Expr":
        return self._unary("log")

    def sqrt(self) -> "Expr":
        return self._unary("sqrt")

    def sin(self) -> "Expr":
        return self._unary("sin")

    def cos(self) -> "Expr":
        return self._unary("cos")

    def abs(self) -> "Expr":
        return self._unary("abs")

    def floor(self) -> "Expr":
        return self._unary("floor")

    def sign(self) -> "Expr":
        return self.positive() - (-self).positive()

    def positive(self) -> "Expr":
        """1 where the value is above 0, else 0; its derivative is 0"""
        return self._unary("positive")

    def maximum(self, other: Operand) -> "Expr":
        return self._binary("max", other)

    def minimum(self, other: Operand) -> "Expr":
        return self._binary("min", other)

    def choose(self, a: Operand, b: Operand) -> "Expr":
        """`a` where the value is above 0, else `b`"""
        args = (self.index, self.graph.operand(a).index, self.graph.operand(b).index)
        return self.graph.add(Node("where", args))

    def over_units(self) -> "Expr":
        """The mean over the units of a layer; not called `mean`, which NumPy would ask for."""
        if not self.graph.units:
            raise EquationError("mean is over the units of a layer, which a cell's step alone has")
        return self._unary("mean")

    def new_full(self, size: tuple[()], value: float) -> "Expr":
        """A number of the same graph, as of torch's tensors."""
        return self.graph.const(value)

    def _branch(self, other: object = None) -> NoReturn:
        raise EquationError(f"a step cannot branch on a value; it may use {LEGAL}")

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _branch


def _simplify(op: str, a: Expr, b: Expr) -> Expr | None:
    """`a op b` where a constant makes it trivial."""
    left = a.node.value if a.node.op == "const" else None
    right = b.node.value if b.node.op == "const" else None
    match op, left, right:
        case "add", float(), float():
            return a.graph.const(left + right)
        case "sub", float(), float():
            return a.graph.const(left - right)
        case "mul", float(), float():
            return a.graph.const(left * right)
        case ("add", 0.0, _) | ("mul", 1.0, _):
            return b
        case ("add" | "sub", _, 0.0) | ("mul" | "div", _, 1.0) | ("mul", 0.0, _):
            return a
        case "mul", _, 0.0:
            return b
    return None


class Attributes:
    """Leaves by attribute, as `leaf` makes them."""

    __leaf: Callable[[str], Expr]

    def __init__(self, leaf: Callable[[str], Expr]):
        self.__dict__["_Attributes__leaf"] = leaf

    def __getattr__(self, name: str) -> Expr:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__leaf(name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise EquationError("it can only be read; the state at t is what step returns")


def _share(a: Expr, b: Expr) -> Expr:
    """1 where a is the larger, 0 where b is, and a half where they are equal."""
    return 0.5 * (1.0 + (a - b).positive() - (b - a).positive())


# d op(a, ...) / d each argument, times the adjoint d, given the result r; None where it is zero everywhere.
_DERIVATIVES: dict[str, Callable[..., tuple[Expr | None, ...]]] = {
    "add": lambda d, r, a, b: (d, d),
    "sub": lambda d, r, a, b: (d, -d),
    "mul": lambda d, r, a, b: (d * b, d * a),
    "div": lambda d, r, a, b: (d / b, -(d * r / b)),
    "neg": lambda d, r, a: (-d,),
    "sigmoid": lambda d, r, a: (d * (r * (1.0 - r)),),
    "tanh": lambda d, r, a: (d * (1.0 - r * r),),
    "relu": lambda d, r, a: (d * r.positive(),),
    "exp": lambda d, r, a: (d * r,),
    "log": lambda d, r, a: (d / a,),
    "sqrt": lambda d, r, a: (d / (r + r),),
    "sin": lambda d, r, a: (d * a.cos(),),
    "cos": lambda d, r, a: (-(d * a.sin()),),
    "abs": lambda d, r, a: (d * a.sign(),),
    "max": lambda d, r, a, b: (d * _share(a, b), d * _share(b, a)),
    "min": lambda d, r, a, b: (d * _share(b, a), d * _share(a, b)),
    "where": lambda d, r, c, a, b: (None, c.choose(d, 0.0), c.choose(0.0, d)),
    "mean": lambda d, r, a: (d._unary("mean"),),  # each unit hears of all
    "floor": lambda d, r, a: (None,),
    "positive": lambda d, r, a: (None,),
}
OPERATIONS = tuple(_DERIVATIVES)  # of a node


def closure(nodes: Sequence[Node], roots: Iterable[int], stop: Collection[int] = ()) -> list[int]:
    """The roots and what they need, in order, but not what only nodes of `stop` need."""
    found, todo = set(), list(roots)
    while todo:
        index = todo.pop()
        if index not in found:
            found.add(index)
            todo += () if index in stop else nodes[index].args
    return sorted(found)


def adjoints(
    graph: Graph,
    seeds: Iterable[tuple[int, Expr]],
    leaf: Callable[[Node, Expr], Iterable[tuple[int, Expr]]] = lambda node, d: (),
) -> dict[int, Expr]:
    """Appends to a graph the derivatives of a whole, by reverse-mode differentiation.

    Args:
        graph: whose nodes up to now are differentiated.
        seeds: nodes, with what the whole's derivative by them begins with.
        leaf: given a node that is no operation, and the derivative by it, what other nodes get of that.

    Returns:
        by node the derivative of the whole by it, for those on which it depends
    """
    n, found = len(graph.nodes), dict[int, Expr]()

    def accumulate(parts: Iterable[tuple[int, Expr]]) -> None:
        for index, part in parts:
            if graph.nodes[index].op != "const":
                found[index] = found[index] + part if index in found else part

    accumulate(seeds)
    for index in reversed(range(n)):
        if index in found:
            node = graph.nodes[index]
            accumulate(
                _derivatives(Expr(graph, index), found[index]) if node.op in OPERATIONS else leaf(node, found[index])
            )
    return found


def _derivatives(value: Expr, d: Expr) -> list[tuple[int, Expr]]:
    """What the arguments of an operation get of a derivative, appended to the graph.

    Args:
        value: result of the operation.
        d: the derivative of the whole with respect to it.

    Returns:
        argument and its part, for those of which it is not zero everywhere
    """
    args = [Expr(value.graph, index) for index in value.node.args]
    parts = _DERIVATIVES[value.node.op](d, value, *args)
    return [(index, part) for index, part in zip(value.node.args, parts, strict=True) if part is not None]
