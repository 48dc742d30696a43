"""What of a cell's matrix products counts: which units read a pre-activation, at which steps, and which are heard.

A step that reads constants of its units, periods or groups, may use a pre-activation of some units alone, or at some
steps alone: it multiplies by 0, or takes the other of two values, where that is not so. What no value depends on has no
derivative either, so that what is said of the forward step holds for the backward one. An engine may leave out what
does not count, with 0 in its place: the results differ by no more than the order of sums.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from search.cells import Cell
from search.engines.plan import Plan, make_plan
from search.expression import Node, closure
from search.rules.trace import NUMPY

Truths = np.ndarray  # bool [steps or 1, units or 1]

_COUNTED = 1024  # steps over which `counted` takes the mean

# Exact, so that every engine finds the same number in the same type; what is made by others is not known beforehand.
_EXACT = ("add", "sub", "mul", "div", "neg", "abs", "floor", "max", "min", "relu", "where", "positive")
_ODD = ("neg", "abs", "relu", "tanh", "sin")  # of 0 they are 0


@dataclass(frozen=True)
class Use:
    """What counts at some steps of a layer.

    Attributes:
        read: by pre-activation, whether its value for a unit matters at a step, bool [steps, N].
        heard: by passed operand (``NAME.OPERAND``), whether an element is other than 0 at any of the steps, bool [N].
    """

    read: dict[str, np.ndarray]
    heard: dict[str, np.ndarray]


def use(plan: Plan, constants: Mapping[str, np.ndarray], steps: np.ndarray) -> Use:
    """What counts of a cell's products.

    Args:
        plan: of the cell.
        constants: of the units, by name, [N] each.
        steps: their numbers, [steps], in the type of numbers that an engine computes with.
    """
    n_units = len(next(iter(constants.values())))
    needed = closure(plan.nodes, plan.state.values())
    known = _known(plan.nodes, needed, {k: v.astype(steps.dtype)[None] for k, v in constants.items()}, steps[:, None])
    zero = _zeros(plan.nodes, needed, known)
    read = _read(plan, needed, known, zero)
    nowhere = np.zeros((1, 1), bool)
    of_pre = {plan.nodes[i].name: read.get(i, nowhere) for i in needed if plan.nodes[i].op == "pre"}
    shape, passed = (len(steps), n_units), [p for p in plan.products if "." in p.operand]
    return Use(
        read={name: np.broadcast_to(of_pre.get(name, nowhere), shape) for name in plan.preactivations},
        heard={p.operand: np.asarray(np.broadcast_to(~zero[p.node], shape).any(axis=0)) for p in passed},
    )


def counted(cell: Cell, n_inputs: int, n_units: int) -> dict[str, float]:
    """Multiplications by each matrix of a layer that count at a step, in the mean of the first 1024: of a matrix of a
    cell that reads no constants all, one for each of its elements."""
    plan = make_plan(cell)
    sizes = {name: float(np.prod(s)) for name, s in cell.parameters(n_inputs, n_units).items() if len(s) == 2}
    if not plan.partial:
        return sizes
    found = use(plan, cell.constant_values(n_units), np.arange(_COUNTED, dtype=np.float64))
    for product in plan.products:
        n_heard = n_inputs if product.operand == "x" else n_units
        n_heard = int(found.heard[product.operand].sum()) if product.operand in found.heard else n_heard
        for name, matrix in zip(product.preactivations, product.matrices, strict=True):
            sizes[matrix] = float(found.read[name].sum() / _COUNTED * n_heard)
    return sizes


def _known(
    nodes: tuple[Node, ...], needed: list[int], constants: Mapping[str, np.ndarray], times: np.ndarray
) -> dict[int, np.ndarray]:
    """The values of the nodes that constants and time alone determine, [steps or 1, units or 1]."""
    leaves: dict[str, Callable[[Node], np.ndarray]] = {
        "const": lambda node: np.full((1, 1), node.value, times.dtype),
        "constant": lambda node: constants[node.name],
        "time": lambda node: times,
    }
    known: dict[int, np.ndarray] = {}
    for index in needed:
        node = nodes[index]
        if node.op in leaves:
            value = leaves[node.op](node)
        elif node.op in _EXACT and all(a in known for a in node.args):
            with np.errstate(all="ignore"):
                value = NUMPY[node.op](*(known[a] for a in node.args))
        else:
            continue
        # Of others engines differ: some take denormal numbers for 0.
        if (np.isfinite(value) & ((value == 0) | (np.abs(value) >= np.finfo(value.dtype).tiny))).all():
            known[index] = value
    return known


def _zeros(nodes: tuple[Node, ...], needed: list[int], known: Mapping[int, np.ndarray]) -> dict[int, Truths]:
    """Where the value of a node is 0 whatever the state and the pre-activations are."""
    zero: dict[int, Truths] = {}
    for index in needed:
        node = nodes[index]
        args = [zero[a] for a in node.args]
        if index in known:
            zero[index] = known[index] == 0
        elif node.op == "mul":
            zero[index] = args[0] | args[1]
        elif node.op in ("add", "sub"):
            zero[index] = args[0] & args[1]
        elif node.op in _ODD:
            zero[index] = args[0]
        elif node.op == "where":
            chosen = known.get(node.args[0])
            zero[index] = args[1] & args[2] if chosen is None else np.where(chosen > 0, args[1], args[2])
        else:
            zero[index] = np.zeros((1, 1), bool)
    return zero


def _read(
    plan: Plan, needed: list[int], known: Mapping[int, np.ndarray], zero: Mapping[int, Truths]
) -> dict[int, Truths]:
    """Where the value of a node matters to the state after the step."""
    everywhere = np.ones((1, 1), bool)
    read: dict[int, Truths] = dict.fromkeys(plan.state.values(), everywhere)

    def by(index: int, where: Truths) -> None:
        read[index] = read[index] | where if index in read else where

    for index in reversed(needed):
        node, own = plan.nodes[index], read.get(index)
        if own is None:
            continue
        if node.op == "mul":
            for factor, other in (node.args, node.args[::-1]):
                by(factor, own & ~zero[other])
        elif node.op == "where" and node.args[0] in known:
            chosen = known[node.args[0]] > 0
            by(node.args[1], own & chosen)
            by(node.args[2], own & ~chosen)
        else:
            # A unit hears all units through a matrix, and so through a mean.
            for argument in node.args:
                by(argument, everywhere if node.op in ("pre", "mean") else own)
    return read
