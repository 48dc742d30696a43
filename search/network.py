"""A recurrent layer and the output layer over it: names, shapes and layout of all parameters."""

import math
from dataclasses import dataclass, field
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
class Layer:
    """One direction of one layer of a network.

    Attributes:
        prefix: of its parameters' names.
        level: 0 for the layer that hears the task's inputs, 1 for the one above, ...
        direction: 0 forward in time, 1 backward.
        owner: index of the layer whose parameters it has; its own, unless layers are tied.
        n_inputs: numbers that it hears at a step.
        heard: the first of its columns in ``W_out``; None if the output layer does not hear it.
    """

    prefix: str
    level: int
    direction: int
    owner: int
    n_inputs: int
    heard: int | None


@dataclass(frozen=True)
class Network:
    """Layers of one cell, each over the one below, and a linear output layer over the last of them.

    Parameters are those of the cell, for a bidirectional network once with the prefix ``forward.`` and once
    with ``backward.``, in the second layer with ``2.`` before that, and so on; and ``W_out`` and ``b_out`` [n_outputs].
    Tied layers have those of the second (`Cell.layers_tied`), of which the gradient is the sum of theirs.
    A layer hears both directions of the one below, the forward one first. ``W_out`` has n_units columns for each
    direction of each layer that it hears, which are those of the last layer or, with `skip`, of all (Graves 2013,
    "Generating sequences with recurrent neural networks", figure 1, without the connections from the input).
    Everywhere outside an engine they are one vector: the parameters in the order of `shapes`, each in row-major order.
    """

    cell: Cell
    n_inputs: int
    n_units: int
    n_outputs: int
    bidirectional: bool = False
    n_layers: int = field(default=1, repr=False)  # checkpoints know a trial by this text, and by its settings
    skip: bool = field(default=False, repr=False)

    @property
    def n_directions(self) -> int:
        return len(DIRECTIONS[self.bidirectional])

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """From bottom to top, the directions of each in turn."""
        layers = []
        for level in range(self.n_layers):
            first_heard = 0 if self.skip else self.n_layers - 1
            for direction, prefix in enumerate(DIRECTIONS[self.bidirectional]):
                block = (level - first_heard) * self.n_directions + direction
                heard = block * self.n_units if level >= first_heard else None
                n_inputs = self.n_directions * self.n_units if level else self.n_inputs
                of = min(level, 1) if self.cell.layers_tied else level
                name, owner = f"{of + 1}.{prefix}" if of else prefix, of * self.n_directions + direction
                layers.append(Layer(name, level, direction, owner, n_inputs, heard))
        return tuple(layers)

    @property
    def n_heard(self) -> int:
        """Numbers that the output layer hears at a step."""
        return sum(layer.heard is not None for layer in self.layers) * self.n_units

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter by name, in the order of the parameter vector."""
        shapes = {
            layer.prefix + name: shape
            for layer in self.layers
            for name, shape in self.cell.parameters(layer.n_inputs, self.n_units).items()
        }
        return shapes | dict(zip(OUTPUT_LAYER, ((self.n_outputs, self.n_heard), (self.n_outputs,)), strict=True))

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
