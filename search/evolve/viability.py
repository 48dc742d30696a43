"""Whether a cell can be trained at all, found out before training: in some hundredths of a second."""

import numpy as np

from search import unroll
from search.base.randomness import initial_normal
from search.cells import Cell

STEPS = 50
MOST_MATRICES, MOST_NODES = 12, 60  # the vanilla LSTM has 8 and 23
LEAST_NORM, MOST_NORM = 1e-4, 1e2  # of the gradient; the vanilla LSTM has 0.09, a ReLU RNN of identity 1
_UNITS, _INPUTS, _SEQUENCES = 16, 8, 2


def fault(cell: Cell) -> str | None:
    """Why a cell cannot be trained; None if nothing is known against it.

    - ``too large``: it has more matrices or operations than is worth its time
    - ``no memory``: y does not depend on what was before
    - ``dead``: no gradient comes to one of its parameters, or next to none to the inputs
    - ``explosive``: the gradient is larger than training can do with, or no number

    The gradient is that of the outputs of 50 steps of noise, at the weights with which training begins.
    """
    n_matrices = sum(len(pre.terms) for pre in cell.preactivations.values())
    if n_matrices > MOST_MATRICES or len(cell.traced.graph.nodes) > MOST_NODES:
        return "too large"
    if not _remembers(cell):
        return "no memory"
    of_inputs, of_parameters = _gradients(cell)
    norm = float(np.linalg.norm(of_inputs))
    if not norm <= MOST_NORM:  # or NaN
        return "explosive"
    if norm < LEAST_NORM or not all(np.isfinite(g).all() and g.any() for g in of_parameters):
        return "dead"
    return None


def _remembers(cell: Cell) -> bool:
    """Whether a path leads to y from what it or another value was a step before."""
    step = cell.traced
    todo, seen = [step.out["y"]], set[int]()
    while todo:
        index = todo.pop()
        if index not in seen:
            seen.add(index)
            node = step.graph.nodes[index]
            heard = {term.operand for term in cell.preactivations[node.name].terms} if node.op == "pre" else set()
            if node.op == "past" or heard - {"x", *step.fed.get(node.name, {})}:
                return True
            todo += node.args
    return False


def _gradients(cell: Cell) -> tuple[np.ndarray, list[np.ndarray]]:
    """Those of the outputs in a random direction of unit length, by the inputs [T, B, M] and by each parameter."""
    import torch  # takes seconds to load, and who only reads an evolution needs none

    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(STEPS, _SEQUENCES, _INPUTS)), requires_grad=True)
    shapes = cell.parameters(_INPUTS, _UNITS)
    params = {
        name: torch.tensor(cell.initial_value(name, initial_normal(0, name, shape)), requires_grad=True)
        for name, shape in shapes.items()
    }
    along = rng.normal(size=(STEPS, _SEQUENCES, _UNITS))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would wait for each other at every operation
    try:
        y = unroll(cell, params, x)
        total = (y * torch.tensor(along / np.linalg.norm(along))).sum()
        of_inputs, *of_parameters = torch.autograd.grad(total, [x, *params.values()], materialize_grads=True)
    finally:
        torch.set_num_threads(threads)
    return of_inputs.numpy(), [gradient.numpy() for gradient in of_parameters]
