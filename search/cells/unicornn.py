"""The undamped independent controlled oscillatory network."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.cells.draws import uniform
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class UnICORNN(Cell):
    """The UnICORNN (Rusch and Mishra 2021, "UnICORNN: a recurrent model for learning very long time dependencies",
    section 2), steps of oscillators that do not hear one another within a layer; z is the velocity.

        z = z_past - dt sigmoid(c) ⊙ (tanh(w ⊙ y_past + W x + b) + alpha y_past)
        y = y_past + dt sigmoid(c) ⊙ z

    The step is the paper's symplectic one; sigmoid(c) is its 0.5 + 0.5 tanh(c / 2). At the start w is uniform from 0 to
    1, c from -0.1 to 0.1, and b is 0, as in its code; the connections that skip layers there are not part of a cell.

    Args:
        dt, alpha: searched for each task in the paper (0.19 and 30.65 for the 784 steps of permuted sequential MNIST);
            these are for sequences of some tens of steps.
    """

    dt: float = 1.0
    alpha: float = 1.0

    @property
    def units(self) -> tuple[str, ...]:
        return ("w", "c")

    def affine(self) -> dict[str, str]:
        return {"a": "W x + b"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        dt = self.dt * sigmoid(p.c)
        z = past.z - dt * (tanh(pre("a") + p.w * past.y) + self.alpha * past.y)
        return {"y": past.y + dt * z, "z": z}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        match name:
            case "w":
                return uniform(normal, 0.0, 1.0)
            case "c":
                return uniform(normal, -0.1, 0.1)
            case "b":
                return np.zeros_like(normal)
        return normal
