"""The coupled oscillatory network."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.cells.draws import uniform
from search.ops import tanh


@dataclass(frozen=True)
class CoRNN(Cell):
    """The coRNN (Rusch and Mishra 2021, "Coupled oscillatory recurrent neural network (coRNN)", equation 3), steps of
    driven and damped oscillators; z is the velocity.

        z = z_past + dt (tanh(W x + R y_past + Q z_past + b) - gamma y_past - epsilon z_past)
        y = y_past + dt z

    Of the paper's two schemes the explicit one, as in its code: the damping sees z_past, not z. At the start a matrix
    with n columns is uniform from -1/sqrt(n) to 1/sqrt(n), as there.

    Args:
        dt, gamma, epsilon: searched for each task in the paper (0.042, 2.7 and 4.7 for the 784 steps of sequential
            MNIST); these are for sequences of some tens of steps.
    """

    dt: float = 0.5
    gamma: float = 1.0
    epsilon: float = 1.0

    def affine(self) -> dict[str, str]:
        return {"a": "W x + R y + Q z + b"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        z = past.z + self.dt * (tanh(pre("a")) - self.gamma * past.y - self.epsilon * past.z)
        return {"y": past.y + self.dt * z, "z": z}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        if normal.ndim == 1:
            return normal
        bound = 1.0 / math.sqrt(normal.shape[1])
        return uniform(normal, -bound, bound)
