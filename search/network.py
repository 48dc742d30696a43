"""A recurrent layer and the output layer over it: names, shapes and layout of all parameters."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.base.memory import memory
from search.base.randomness import initial_normal
from search.cells import Cell
from search.cells.cell import OUTPUT_LAYER
from search.errors import UserError

VECTORS = 11  # as long as the parameter vector that are in memory while engine=cpu trains, measured at 9e6 parameters
DIRECTIONS = {False: ("",), True: ("forward.", "backward.")}


@dataclass(frozen=True)
class Network:
    """One layer of a cell (one for each direction) and a linear output layer over it.

    Parameters are those of the cell, for a bidirectional network once with the prefix ``forward.`` and once
    with ``backward.``, and ``W_out`` [n_outputs, directions * n_units] and ``b_out`` [n_outputs].
    Everywhere outside an engine they are one vector: the parameters in the order of `shapes`, each in row-major order.
    """

    cell: Cell
    n_inputs: int
    n_units: int
    n_outputs: int
    bidirectional: bool = False

    @property
    def directions(self) -> tuple[str, ...]:
        """Prefix of the parameter names of each direction."""
        return DIRECTIONS[self.bidirectional]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter by name, in the order of the parameter vector."""
        layer = self.cell.parameters(self.n_inputs, self.n_units)
        shapes = {prefix + name: shape for prefix in self.directions for name, shape in layer.items()}
        output = (self.n_outputs, len(self.directions) * self.n_units), (self.n_outputs,)
        return shapes | dict(zip(OUTPUT_LAYER, output, strict=True))

    @property
    def n_parameters(self) -> int:
        """Length of the parameter vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def initial(self, seed: int, dtype: str) -> np.ndarray:
        """The parameter vector that training starts from: N(0, 0.1), or what the cell says. [n_parameters]

        Raises:
            UserError: this machine has not the memory to train it.
        """
        needed, there = VECTORS * np.dtype(dtype).itemsize * self.n_parameters, memory()
        if needed > there:
            raise UserError(
                f"hidden_size={self.n_units}: a network of {self.n_parameters} parameters needs about "
                f"{needed >> 30} GiB to train; this machine has {there >> 30} GiB"
            )
        parts = []
        for name, shape in self.shapes.items():
            normal = initial_normal(seed, name, shape)
            parts.append(normal if name in OUTPUT_LAYER else self.cell.initial_value(name.rpartition(".")[2], normal))
        return np.concatenate([part.ravel() for part in parts]).astype(dtype)

    def unpack(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Views of a parameter vector [n_parameters] by name."""
        views, start = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            views[name] = vector[start : start + size].reshape(shape)
            start += size
        return views
