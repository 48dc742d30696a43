"""A cell's step as a small expression graph, and its derivative by reverse-mode differentiation.

`trace` runs the equations of a cell once on symbols and records what they do. `differentiate`
appends to the graph the expressions of the backward step. What a compiled engine prints is this
graph; nothing here knows of any particular cell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

Operand = Union["Expr", float, int]


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
        return self.add(Node("const", value=float(value)))


@dataclass(frozen=True, eq=False)
class Expr:
    """A node of a graph under construction, with the arithmetic of a number."""

    graph: Graph
    index: int

    @property
    def node(self) -> Node:
        return self.graph.nodes[self.index]

    def _binary(self, op: str, other: Operand, swap: bool = False) -> "Expr":
        if isinstance(other, int | float):
            other = self.graph.const(other)
        if not isinstance(other, Expr):
            return NotImplemented
        a, b = (other, self) if swap else (self, other)
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

    def positive(self) -> "Expr":
        """1 where the value is above 0, else 0"""
        return self._unary("positive")

    def __bool__(self) -> bool:
        raise TypeError("a cell's step cannot branch on a value: write it with the operations of search.ops")


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
    """Leaves of one kind by attribute; remembers which were read."""

    def __init__(self, graph: Graph, op: str, known: tuple[str, ...] | None = None):
        self._graph, self._op, self._known = graph, op, known
        self._read: dict[str, None] = {}

    def __getattr__(self, name: str) -> Expr:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._known is not None and name not in self._known:
            raise ValueError(f"p.{name}: not declared in `units`, which has: {', '.join(self._known) or 'nothing'}")
        self._read[name] = None
        return self._graph.leaf(self._op, name)


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
        ValueError: the step uses a name that is not declared, or leaves out one that is.
    """
    graph = Graph()
    title = type(cell).__name__
    past = _Attributes(graph, "past")
    fed: dict[str, dict[str, int]] = {}

    def as_expr(value: Operand) -> Expr:
        return value if isinstance(value, Expr) else graph.const(value)

    def pre(name: str, **operands: Operand) -> Expr:
        if name not in cell.preactivations:
            raise ValueError(f'{title}: pre("{name}") is not declared; affine() has: {", ".join(cell.preactivations)}')
        unused = operands.keys() - {term.operand for term in cell.preactivations[name].terms}
        if unused:
            raise ValueError(f'{title}: pre("{name}") has no product with {", ".join(sorted(unused))}')
        given = {key: as_expr(value).index for key, value in operands.items()}
        if fed.setdefault(name, given) != given:
            raise ValueError(f'{title}: pre("{name}") is asked for twice with different operands')
        return graph.add(Node("pre", tuple(given.values()), name))

    returned = cell.step(past, pre, _Attributes(graph, "unit", cell.units))
    never = cell.preactivations.keys() - fed.keys()
    if never:
        raise ValueError(f"{title}: the step never asks for pre-activation {', '.join(sorted(never))}")
    carried = dict.fromkeys(("y", *past._read))
    for name, affine in cell.preactivations.items():
        carried |= dict.fromkeys(t.operand for t in affine.terms if t.operand != "x" and t.operand not in fed[name])
    missing = carried.keys() - returned.keys()
    if missing:
        raise ValueError(f"{title}: the step must return {', '.join(sorted(missing))}; it is read at the next step")
    return Step(graph, tuple(carried), {name: as_expr(returned[name]).index for name in carried}, fed)


# d op(a, ...) / d each argument, times the adjoint d, given the result r.
_DERIVATIVES: dict[str, Callable[..., tuple[Expr, ...]]] = {
    "add": lambda d, r, a, b: (d, d),
    "sub": lambda d, r, a, b: (d, -d),
    "mul": lambda d, r, a, b: (d * b, d * a),
    "div": lambda d, r, a, b: (d / b, -(d * r / b)),
    "neg": lambda d, r, a: (-d,),
    "sigmoid": lambda d, r, a: (d * (r * (1.0 - r)),),
    "tanh": lambda d, r, a: (d * (1.0 - r * r),),
    "relu": lambda d, r, a: (d * r.positive(),),
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
