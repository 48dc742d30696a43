"""A cell's step as a small expression graph, and its derivative by reverse-mode differentiation.

`trace` runs the equations of a cell once on symbols and records what they do. `differentiate`
appends to the graph the expressions of the backward step. What a compiled engine prints is this
graph; nothing here knows of any particular cell.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, Union

import numpy as np

from search import ops

Operand = Union["Expr", float, int]
OPERATIONS = f"numbers, + - * /, ** 2 and {', '.join(ops.__all__)} of search.ops"


class CellError(ValueError):
    """The equations of a cell contradict one another, or do what a step cannot."""


class Traceable(Protocol):
    """What `trace` needs of a cell."""

    @property
    def preactivations(self) -> Mapping[str, Any]: ...
    @property
    def units(self) -> tuple[str, ...]: ...
    def step(self, past: Any, pre: Any, p: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Node:
    """One value of the step.

    `op` is an operation on the nodes `args` (``add sub mul div neg sigmoid tanh relu exp positive``),
    ``const`` (its `value`), or a leaf read from outside:

    - ``past`` NAME: the state at t - 1
    - ``pre`` NAME: a pre-activation; `args` are the operands that the step passes to it
    - ``unit`` NAME: a per-unit parameter
    - ``adjoint`` NAME: d loss / d state at t, everything after t included (backward only)
    - ``fed`` NAME.OPERAND: matrix^T @ d loss / d pre NAME, for an operand that the step passes (backward only)
    """

    op: str
    args: tuple[int, ...] = ()
    name: str = ""
    value: float = 0.0


LEAVES = ("const", "past", "pre", "unit", "adjoint", "fed")


@dataclass
class Graph:
    """Nodes in an order in which each comes after its arguments; equal nodes are one node."""

    nodes: list[Node] = field(default_factory=list)
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
            raise CellError(f"makes the constant {value}; expected a finite number")
        return self.add(Node("const", value=float(value)))

    def operand(self, value: Operand) -> "Expr":
        """`value` as a node of this graph.

        Raises:
            CellError: it is neither a node of this graph nor a finite number.
        """
        if isinstance(value, Expr):
            if value.graph is not self:
                raise CellError("a value that was kept from an earlier call of step; only `past` reaches back")
            return value
        if not isinstance(value, int | float | np.integer | np.floating):
            kind = "None" if value is None else f"a {type(value).__name__}"
            raise CellError(f"expected a value of the step or a number, not {kind}; a step may use {OPERATIONS}")
        return self.const(float(value))


@dataclass(frozen=True, eq=False)
class Expr:
    """A node of a graph under construction, with the arithmetic of a number."""

    graph: Graph = field(repr=False)
    index: int

    # Without these NumPy would take it for an array of one object: np.tanh(f) and np.mean(f) would seem to work.
    __array_ufunc__ = None

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise CellError(f"a step is not for NumPy; it may use {OPERATIONS}")

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
            raise CellError(f"write a power as a product; a step may use {OPERATIONS}")
        return self * self

    def __neg__(self) -> "Expr":
        return self._unary("neg")

    def sigmoid(self) -> "Expr":
        return self._unary("sigmoid")

    def tanh(self) -> "Expr":
        return self._unary("tanh")

    def relu(self) -> "Expr":
        return self._unary("relu")

    def exp(self) -> "Expr":
        return self._unary("exp")

    def _positive(self) -> "Expr":
        """1 where the value is above 0, else 0; for derivatives alone, for it has none of its own"""
        return self._unary("positive")

    def _branch(self, other: object = None) -> NoReturn:
        raise CellError(f"a step cannot branch on a value; it may use {OPERATIONS}")

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


class _Attributes:
    """Leaves by attribute, as `leaf` makes them."""

    __leaf: Callable[[str], Expr]

    def __init__(self, leaf: Callable[[str], Expr]):
        self.__dict__["_Attributes__leaf"] = leaf

    def __getattr__(self, name: str) -> Expr:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__leaf(name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise CellError("it can only be read; the state at t is what step returns")


@dataclass(frozen=True)
class Step:
    """The forward step of a cell.

    Attributes:
        graph: its nodes.
        state: names that must be carried from one step to the next, ``y`` first.
        out: for each name of `state` the node of its value at t.
        fed: for each pre-activation the operands that the step passes to it, ``{name: {operand: node}}``.
    """

    graph: Graph
    state: tuple[str, ...]
    out: dict[str, int]
    fed: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Backward:
    """The backward step, appended to the graph of the forward step.

    Attributes:
        pre: for each pre-activation the node of d loss / d pre-activation.
        past: for each name of the state the node of the elementwise part of d loss / d state at t - 1
            (what flows back through the matrix products is not in it).
        units: for each per-unit parameter the node of this step's part of its gradient.
        n_forward: nodes below this index belong to the forward step.
    """

    pre: dict[str, int]
    past: dict[str, int]
    units: dict[str, int]
    n_forward: int


def trace(cell: Traceable) -> Step:
    """Records the step of a cell.

    Raises:
        CellError: the step uses a name that is not declared, leaves out one that is, or does what a step cannot.
    """
    graph = Graph()
    read: dict[str, None] = {}
    fed: dict[str, dict[str, int]] = {}

    def past(name: str) -> Expr:
        if name == "x":
            raise CellError("x is the input, which only `affine` hears; call the state otherwise")
        read[name] = None
        return graph.leaf("past", name)

    def unit(name: str) -> Expr:
        if name not in cell.units:
            raise CellError(f"not declared in `units`, which has: {', '.join(cell.units) or 'nothing'}")
        return graph.leaf("unit", name)

    def pre(name: str, /, **operands: Operand) -> Expr:
        if name not in cell.preactivations:
            raise CellError(f"not declared in `affine`, which has: {', '.join(cell.preactivations) or 'nothing'}")
        if "x" in operands:
            raise CellError("x is the input; call what the step passes otherwise")
        unused = operands.keys() - {term.operand for term in cell.preactivations[name].terms}
        if unused:
            raise CellError(f"{name} has no product with {', '.join(sorted(unused))} in `affine`")
        given = {key: graph.operand(value).index for key, value in operands.items()}
        if fed.setdefault(name, given) != given:
            raise CellError(f"{name} is asked for twice, with different operands")
        return graph.add(Node("pre", tuple(given.values()), name))

    returned = cell.step(_Attributes(past), pre, _Attributes(unit))
    step = Step(graph, *_carried(cell, graph, returned, read, fed), fed)
    if not _hears_input(cell, step):
        raise CellError("y does not depend on the input x")
    return step


def _carried(
    cell: Traceable, graph: Graph, returned: Any, read: Mapping[str, None], fed: Mapping[str, Mapping[str, int]]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """`Step.state` and `Step.out`, given what the step returned, and what it has read and passed."""
    if not isinstance(returned, Mapping):
        kind = "None" if returned is None else f"a {type(returned).__name__}"
        raise CellError(f"returns {kind}; expected a dict of y and whatever else the next step reads")
    never = cell.preactivations.keys() - fed.keys()
    if never:
        raise CellError(f"never asks for pre-activation {', '.join(sorted(never))} of `affine`")
    why = dict.fromkeys(("y", *read), "read from `past`") | {"y": "the output"}
    for name, affine in cell.preactivations.items():
        for term in affine.terms:
            if term.operand != "x" and term.operand not in fed[name]:
                why.setdefault(term.operand, f'heard by {name} through {term.matrix} and not passed to pre("{name}")')
    missing = [f"{name}, which is {reason}" for name, reason in why.items() if name not in returned]
    if missing:
        raise CellError(f"does not return {'; nor '.join(missing)}")
    out = {}
    for name in why:
        try:
            out[name] = graph.operand(returned[name]).index
        except CellError as error:
            raise CellError(f"{name}: {error}") from None
    return tuple(why), out


def _hears_input(cell: Traceable, step: Step) -> bool:
    """Whether y depends on x, at this step or through the state."""
    todo, seen = [step.out["y"]], set()
    while todo:
        index = todo.pop()
        if index in seen:
            continue
        seen.add(index)
        node = step.graph.nodes[index]
        todo += node.args
        if node.op == "past":
            todo.append(step.out[node.name])
        if node.op == "pre":
            heard = {term.operand for term in cell.preactivations[node.name].terms} - step.fed[node.name].keys()
            if "x" in heard:
                return True
            todo += [step.out[operand] for operand in heard]
    return False


# d op(a, ...) / d each argument, times the adjoint d, given the result r.
_DERIVATIVES: dict[str, Callable[..., tuple[Expr, ...]]] = {
    "add": lambda d, r, a, b: (d, d),
    "sub": lambda d, r, a, b: (d, -d),
    "mul": lambda d, r, a, b: (d * b, d * a),
    "div": lambda d, r, a, b: (d / b, -(d * r / b)),
    "neg": lambda d, r, a: (-d,),
    "sigmoid": lambda d, r, a: (d * (r * (1.0 - r)),),
    "tanh": lambda d, r, a: (d * (1.0 - r * r),),
    "relu": lambda d, r, a: (d * r._positive(),),
    "exp": lambda d, r, a: (d * r,),
}


def differentiate(step: Step) -> Backward:
    """Appends the backward step to the graph of `step`, by reverse-mode differentiation."""
    graph = step.graph
    n_forward = len(graph.nodes)
    adjoints: dict[int, Expr] = {}

    def accumulate(index: int, d: Expr) -> None:
        if graph.nodes[index].op != "const":
            adjoints[index] = adjoints[index] + d if index in adjoints else d

    for name, index in step.out.items():
        accumulate(index, graph.leaf("adjoint", name))
    pre, past, units = {}, {}, {}
    for index in reversed(range(n_forward)):
        if index not in adjoints:
            continue
        node, d = graph.nodes[index], adjoints[index]
        match node.op:
            case "pre":
                pre[node.name] = d.index
                for operand, source in step.fed[node.name].items():
                    accumulate(source, graph.leaf("fed", f"{node.name}.{operand}"))
            case "past":
                past[node.name] = d.index
            case "unit":
                units[node.name] = d.index
            case op:
                args = [Expr(graph, i) for i in node.args]
                for argument, part in zip(node.args, _DERIVATIVES[op](d, Expr(graph, index), *args), strict=True):
                    accumulate(argument, part)
    return Backward(pre, past, units, n_forward)
