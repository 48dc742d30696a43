"""Whether two cells are the same but for names, order, and what nothing uses."""

import hashlib
from collections.abc import Mapping

import numpy as np

from search.cells.cell import Cell
from search.cells.trace import reached

_COMMUTE = ("add", "mul", "max", "min")
_EDGE = tuple[str, int]  # how a node is used, and the node


def canonical(cell: Cell) -> str:
    """16 hexadecimal digits, equal for cells that are the same up to the names of all that they have, the operands of
    ``+``, ``*``, maximum and minimum, the order of equations, and what y does not depend on.

    Nodes are told apart by what they are, what they use and what uses them, as far as that goes (colour refinement,
    Weisfeiler and Leman 1968); regular graphs of one shape could be taken for each other. Initial values and constants
    count, as they are in a small layer, and so does whether layers are tied.
    """
    step, starts = cell.traced, _starts(cell)
    live = reached(step.out["y"], lambda index: [other for _, other in _uses(cell, starts, index)])
    uses = {index: _uses(cell, starts, index) for index in live}
    used: dict[int, list[_EDGE]] = {index: [] for index in uses}
    for index, edges in uses.items():
        for kind, other in edges:
            used[other].append((kind, index))
    own = {index: _own(cell, starts, index) for index in uses}
    colours = {index: _digest(text) for index, text in own.items()}
    for _ in uses:
        finer = {
            index: _digest(
                own[index],
                *sorted(f"{kind} {colours[other]}" for kind, other in uses[index]),
                "used",
                *sorted(f"{kind} {colours[other]}" for kind, other in used[index]),
            )
            for index in uses
        }
        stable = len(set(finer.values())) == len(set(colours.values()))
        colours = finer
        if stable:
            break
    return _digest(colours[step.out["y"]], *sorted(colours.values()), *(["tied"] if cell.layers_tied else []))[:16]


def _uses(cell: Cell, starts: Mapping[str, str], index: int) -> list[_EDGE]:
    """What a node uses; of a state at another step or in another layer the node of its value."""
    step = cell.traced
    node = step.graph.nodes[index]
    if node.op in ("past", "below"):
        return [(node.op, step.out[node.name])]
    if node.op != "pre":
        ordered = node.op not in _COMMUTE
        return [(f"argument {place if ordered else ''}", arg) for place, arg in enumerate(node.args)]
    edges = []
    for term in cell.preactivations[node.name].terms:
        start = starts[term.matrix]
        if term.operand in step.fed[node.name]:
            edges.append((f"product {start}", step.fed[node.name][term.operand]))
        elif term.operand != "x":
            edges.append((f"product with past {start}", step.out[term.operand]))
    return edges


def _own(cell: Cell, starts: Mapping[str, str], index: int) -> str:
    """What a node is, without names."""
    node = cell.traced.graph.nodes[index]
    match node.op:
        case "const":
            return f"const {node.value!r}"
        case "pre":
            pre = cell.preactivations[node.name]
            heard = sorted(starts[term.matrix] for term in pre.terms if term.operand == "x")
            return f"pre {heard} {starts[pre.bias] if pre.bias else None}"
        case "unit":
            return f"unit {starts[node.name]}"
        case "constant":
            return f"constant {cell.constant_values(5)[node.name].tolist()}"
    return node.op


def _starts(cell: Cell) -> dict[str, str]:
    """Of each parameter what its initial values are made to be, of fixed draws."""
    found = {}
    for name, shape in cell.parameters(n_inputs=3, n_units=5).items():
        normal = np.sin(np.arange(1.0, 1.0 + np.prod(shape))).reshape(shape)
        found[name] = _digest(repr(cell.initial_value(name, normal).round(6).tolist()))
    return found


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
