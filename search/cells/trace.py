"""A cell's step as an expression graph, and its derivative by reverse-mode differentiation.

`trace` runs the equations of a cell once on symbols and records what they do. `differentiate` appends to the graph the
expressions of the backward step. Nothing here knows of any particular cell.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from search.expression import Attributes, EquationError, Expr, Graph, Node, Operand, adjoints

TIME, BELOW = "t", "below"  # names under which a step reads its number, and the state of the layer below


class Traceable(Protocol):
    """What `trace` needs of a cell."""

    @property
    def preactivations(self) -> Mapping[str, Any]: ...
    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def constant_names(self) -> tuple[str, ...]: ...
    def step(self, past: Any, pre: Any, p: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Step:
    """The forward step of a cell.

    Attributes:
        graph: its nodes.
        state: names that must be carried from one step to the next, ``y`` first.
        out: for each name of `state` the node of its value at t.
        fed: for each pre-activation the operands that the step passes to it, ``{name: {operand: node}}``.
        below: names of `state` that the layer above reads.
    """

    graph: Graph
    state: tuple[str, ...]
    out: dict[str, int]
    fed: dict[str, dict[str, int]]
    below: tuple[str, ...]


@dataclass(frozen=True)
class Backward:
    """The backward step, appended to the graph of the forward step.

    Attributes:
        pre: for each pre-activation the node of d loss / d pre-activation.
        past: for each name of the state the node of the elementwise part of d loss / d state at t - 1
            (what flows back through the matrix products is not in it).
        units: for each per-unit parameter the node of this step's part of its gradient.
        below: for each name that the step reads of the layer below the node of d loss / d that.
        n_forward: nodes below this index belong to the forward step.
    """

    pre: dict[str, int]
    past: dict[str, int]
    units: dict[str, int]
    below: dict[str, int]
    n_forward: int


def trace(cell: Traceable) -> Step:
    """Records the step of a cell.

    Raises:
        EquationError: the step uses a name that is not declared, leaves out one that is, or does what a step cannot.
    """
    graph = Graph(units=True)
    read: dict[str, None] = {}
    lower: dict[str, None] = {}
    fed: dict[str, dict[str, int]] = {}

    def past(name: str) -> Expr:
        if name == "x":
            raise EquationError("x is the input, which only `affine` hears; call the state otherwise")
        read[name] = None
        return graph.leaf("past", name)

    def below(name: str) -> Expr:
        if name == "x":
            raise EquationError("x is the input, which only `affine` hears; p.below has the state")
        lower[name] = None
        return graph.leaf("below", name)

    def unit(name: str) -> Any:
        if name == TIME:
            return graph.leaf("time", name)
        if name == BELOW:
            return Attributes(below)
        if name in cell.constant_names:
            return graph.leaf("constant", name)
        if name not in cell.units:
            raise EquationError(f"not declared in `units`, which has: {', '.join(cell.units) or 'nothing'}")
        return graph.leaf("unit", name)

    def pre(name: str, /, **operands: Operand) -> Expr:
        if name not in cell.preactivations:
            raise EquationError(f"not declared in `affine`, which has: {', '.join(cell.preactivations) or 'nothing'}")
        if "x" in operands:
            raise EquationError("x is the input; call what the step passes otherwise")
        unused = operands.keys() - {term.operand for term in cell.preactivations[name].terms}
        if unused:
            raise EquationError(f"{name} has no product with {', '.join(sorted(unused))} in `affine`")
        given = {key: graph.operand(value).index for key, value in operands.items()}
        if fed.setdefault(name, given) != given:
            raise EquationError(f"{name} is asked for twice, with different operands")
        return graph.add(Node("pre", tuple(given.values()), name))

    returned = cell.step(Attributes(past), pre, Attributes(unit))
    why = dict.fromkeys(("y", *read), "read from `past`") | {"y": "the output"}
    for name in lower:
        why.setdefault(name, "read from `p.below`")
    step = Step(graph, *_carried(cell, graph, returned, why, fed), fed, tuple(lower))
    if not _hears_input(cell, step):
        raise EquationError("y does not depend on the input x")
    return step


def _carried(
    cell: Traceable, graph: Graph, returned: Any, why: dict[str, str], fed: Mapping[str, Mapping[str, int]]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """`Step.state` and `Step.out`, given what the step returned, why it must return what, and what it has passed."""
    if not isinstance(returned, Mapping):
        kind = "None" if returned is None else f"a {type(returned).__name__}"
        raise EquationError(f"returns {kind}; expected a dict of y and whatever else the next step reads")
    never = cell.preactivations.keys() - fed.keys()
    if never:
        raise EquationError(f"never asks for pre-activation {', '.join(sorted(never))} of `affine`")
    for name, affine in cell.preactivations.items():
        for term in affine.terms:
            if term.operand != "x" and term.operand not in fed[name]:
                why.setdefault(term.operand, f'heard by {name} through {term.matrix} and not passed to pre("{name}")')
    missing = [f"{name}, which is {reason}" for name, reason in why.items() if name not in returned]
    if missing:
        raise EquationError(f"does not return {'; nor '.join(missing)}")
    out = {}
    for name in why:
        try:
            out[name] = graph.operand(returned[name]).index
        except EquationError as error:
            raise EquationError(f"{name}: {error}") from None
    return tuple(why), out


def reached(start: int, uses: Callable[[int], Iterable[int]]) -> Iterator[int]:
    """A node and all on which it depends, each once, given what each uses."""
    todo, seen = [start], set()
    while todo:
        index = todo.pop()
        if index not in seen:
            seen.add(index)
            yield index
            todo += uses(index)


def _hears_input(cell: Traceable, step: Step) -> bool:
    """Whether y depends on x, at this step or through the state."""

    def heard(index: int) -> set[str]:
        node = step.graph.nodes[index]
        if node.op != "pre":
            return {node.name} if node.op == "past" else set()
        return {term.operand for term in cell.preactivations[node.name].terms} - step.fed[node.name].keys()

    def uses(index: int) -> Iterator[int]:
        yield from step.graph.nodes[index].args
        yield from (step.out[name] for name in heard(index) if name != "x")

    return any("x" in heard(index) for index in reached(step.out["y"], uses))


def differentiate(step: Step) -> Backward:
    """Appends the backward step to the graph of `step`, by reverse-mode differentiation."""
    graph, n_forward = step.graph, len(step.graph.nodes)

    def fed(node: Node, d: Expr) -> Iterator[tuple[int, Expr]]:
        if node.op == "pre":
            for operand, source in step.fed[node.name].items():
                yield source, graph.leaf("fed", f"{node.name}.{operand}")

    found = adjoints(graph, ((index, graph.leaf("adjoint", name)) for name, index in step.out.items()), fed)
    of = {op: {graph.nodes[i].name: d.index for i, d in found.items() if graph.nodes[i].op == op} for op in _LEAVES}
    return Backward(of["pre"], of["past"], of["unit"], of["below"], n_forward)


_LEAVES = ("pre", "past", "unit", "below")
