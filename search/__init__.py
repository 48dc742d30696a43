"""Odyssey: search-space experiments over recurrent architectures."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes a second to load, NumPy half of one, which commands should not begin with
    import torch

    from search import cells
    from search.cells import Cell

__all__ = ["cells", "unroll"]


def __getattr__(name: str) -> ModuleType:
    if name == "cells":
        return import_module("search.cells")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def unroll(
    cell: "Cell", params: "dict[str, torch.Tensor]", x: "torch.Tensor", engine: str = "reference"
) -> "torch.Tensor":
    """Runs one recurrent layer over a batch of sequences, differentiably in `params` and `x`.

    Args:
        cell: the equations, from `search.cells.get`.
        params: tensors with the names and shapes of ``cell.parameters(M, N)``, in float32 or float64.
        x: input [T, B, M].
        engine: ``reference`` (torch, on the device of the tensors), ``cpu`` or ``cuda`` (compiled).

    Returns:
        y [T, B, N]; the state is zero before the first step.

    Raises:
        UserError: no such engine, or names or shapes that are not the cell's.
    """
    from search.engines import choose
    from search.errors import expect

    expect(x.dim() == 3, "x", tuple(x.shape), "a tensor [T, B, M]")
    n_units = len(next(iter(params.values()))) if params else 0
    expected, given = cell.parameters(x.shape[2], n_units), {name: tuple(p.shape) for name, p in params.items()}
    expect(given == expected, "params", given, f"{expected}")
    return choose(engine, x.device.type).unroll(cell, params, x)
