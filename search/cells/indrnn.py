"""The independently recurrent network."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.cells.draws import uniform
from search.ops import relu


@dataclass(frozen=True)
class IndRNN(Cell):
    """The IndRNN (Li, Li, Cook, Zhu and Gao 2018, "Independently recurrent neural network", equation 2), whose units
    hear of the past only themselves.

        y = relu(W x + u ⊙ y_past + b)

    At the start u is uniform from 0 to 1, which keeps the long and the short past, and b is 0. The paper clips u after
    each update, to at most 2^(1/T) for sequences of T steps; here u is free, as no cell acts on an update.
    """

    @property
    def units(self) -> tuple[str, ...]:
        return ("u",)

    def affine(self) -> dict[str, str]:
        return {"a": "W x + b"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        return {"y": relu(pre("a") + p.u * past.y)}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        match name:
            case "u":
                return uniform(normal, 0.0, 1.0)
            case "b":
                return np.zeros_like(normal)
        return normal
