"""The step of an update rule as an expression graph, split into what all weights share and what each computes.

What depends on hyperparameters and time alone (a bias correction, a decayed learning rate) is the same for all weights.
It is evaluated once an update, in float64 by NumPy, whatever the engine; the rest is what engines print.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from search.expression import Attributes, EquationError, Expr, Graph, Node, closure

Floats = NDArray[np.float64]
_OWN = ("gradient", "weight", "slot")  # leaves that differ from weight to weight


class Traceable(Protocol):
    """What `trace` needs of a rule."""

    @property
    def hyperparameters(self) -> Mapping[str, Any]: ...
    @property
    def slots(self) -> Sequence[str]: ...
    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Program:
    """An update, ready to print.

    Attributes:
        nodes: the graph, in an order in which each node comes after its arguments.
        slots: names, in the order in which they are kept.
        shared: those nodes that are the same for all weights and that the others need, in the order of their values.
        own: the nodes to compute for every weight, each after its arguments.
        weight: node of the new weight.
        new: nodes of the new slots.
    """

    nodes: tuple[Node, ...]
    slots: tuple[str, ...]
    shared: tuple[int, ...]
    own: tuple[int, ...]
    weight: int
    new: tuple[int, ...]

    @cached_property
    def scale(self) -> int:
        """Which of the shared nodes is the factor on the gradients that clipping by norm asks for; -1 if none is."""
        return next((index for index in self.shared if self.nodes[index].op == "scale"), -1)

    @cached_property
    def signature(self) -> str:
        """The equations as text: equal for rules that compute the same, whatever they are called."""
        return repr((self.nodes, self.slots, self.shared, self.own, self.weight, self.new))

    def shared_values(self, hyper: Mapping[str, float | Floats], times: Floats, scale: Floats) -> Floats:
        """The values of the shared nodes.

        Args:
            hyper: the hyperparameters; one number each, or one for each update.
            times: numbers of U updates.
            scale: what gradients are multiplied by, for each update.

        Returns:
            float64 [U, len(shared)]
        """
        leaves = {"hyper": lambda name: hyper[name], "time": lambda name: times, "scale": lambda name: scale}
        needed = closure(self.nodes, self.shared)
        with np.errstate(all="ignore"):
            values = _evaluated(self.nodes, needed, lambda node: leaves[node.op](node.name))
        rows = [np.broadcast_to(np.asarray(values[index], np.float64), times.shape) for index in self.shared]
        return np.stack(rows, axis=1) if rows else np.zeros((len(times), 0))

    def evaluate(self, g: Floats, w: Floats, slots: Mapping[str, Floats], shared: Floats) -> list[Floats]:
        """The new weights and slots, in order, of arrays [..., ] of weights; `shared` [..., len(shared)] as above."""
        leaves = {"gradient": lambda name: g, "weight": lambda name: w, "slot": lambda name: slots[name]}
        known = {index: shared[..., k] for k, index in enumerate(self.shared)}
        with np.errstate(all="ignore"):
            values = _evaluated(self.nodes, self.own, lambda node: leaves[node.op](node.name), known)
        return [values[index] for index in (self.weight, *self.new)]


def trace(rule: Traceable, before: Callable[[Expr], Expr] = lambda g: g) -> Program:
    """Records the step of a rule.

    Args:
        rule: whose step.
        before: what is done with the gradient first; see `search.rules.update`.

    Raises:
        EquationError: the step uses a name that is not declared, leaves out one that is, or does what a step cannot.
    """
    graph = Graph()

    def declared(op: str, kind: str, names: Sequence[str]) -> Attributes:
        def leaf(name: str) -> Expr:
            if name not in names:
                raise EquationError(f"{name} is not declared in `{kind}`, which has: {', '.join(names) or 'nothing'}")
            return graph.leaf(op, name)

        return Attributes(leaf)

    returned = rule.step(
        before(graph.leaf("gradient", "")),
        graph.leaf("weight", ""),
        declared("slot", "slots", tuple(rule.slots)),
        graph.leaf("time", ""),
        declared("hyper", "hyperparameters", tuple(rule.hyperparameters)),
    )
    if not isinstance(returned, Mapping):
        kind = "None" if returned is None else f"a {type(returned).__name__}"
        raise EquationError(f"returns {kind}; expected a dict of w and the slots")
    expected = ("w", *rule.slots)
    if set(returned) != set(expected):
        raise EquationError(f"returns {', '.join(map(str, returned))}; expected {', '.join(expected)}")
    roots = [graph.operand(returned[name]).index for name in expected]
    return _split(tuple(graph.nodes), tuple(rule.slots), roots)


def _split(nodes: tuple[Node, ...], slots: tuple[str, ...], roots: list[int]) -> Program:
    own = [False] * len(nodes)  # whether a node differs from weight to weight
    for index, node in enumerate(nodes):
        own[index] = node.op in _OWN or any(own[a] for a in node.args)
    needed = closure(nodes, roots, {i for i in range(len(nodes)) if not own[i]})
    shared = dict.fromkeys(i for i in needed if not own[i] and nodes[i].op != "const")
    return Program(
        nodes=nodes,
        slots=slots,
        shared=tuple(shared),
        own=tuple(i for i in needed if own[i] or nodes[i].op == "const"),
        weight=roots[0],
        new=tuple(roots[1:]),
    )


def _evaluated(
    nodes: Sequence[Node],
    order: Sequence[int],
    leaf: Callable[[Node], Any],
    known: Mapping[int, Any] | None = None,
) -> dict[int, Any]:
    values = dict(known or {})
    for index in order:
        node = nodes[index]
        if node.op == "const":
            values[index] = node.value
        elif node.args:
            values[index] = NUMPY[node.op](*(values[a] for a in node.args))
        else:
            values[index] = leaf(node)
    return values


# What the nodes of `search.expression` mean to NumPy.
NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "sigmoid": lambda v: 1.0 / (1.0 + np.exp(-v)),
    "tanh": np.tanh,
    "relu": lambda v: np.maximum(v, 0.0),
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "abs": np.abs,
    "floor": np.floor,
    "max": np.maximum,
    "min": np.minimum,
    "where": lambda c, a, b: np.where(np.greater(c, 0.0), a, b),
    "positive": lambda v: np.where(np.greater(v, 0.0), np.ones_like(v), np.zeros_like(v)),
}
