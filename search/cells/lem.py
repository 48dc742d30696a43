"""Long expressive memory."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.cells.draws import uniform
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class LEM(Cell):
    """LEM (Rusch, Mishra, Erichson and Mahoney 2022, "Long expressive memory for sequence modeling", equation 3), steps
    of a system of differential equations whose every unit has two learned time steps.

        d = dt sigmoid(W_d x + R_d y_past + b_d)
        e = dt sigmoid(W_e x + R_e y_past + b_e)
        z = (1 - d) ⊙ z_past + d ⊙ tanh(W_z x + R_z y_past + b_z)
        y = (1 - e) ⊙ y_past + e ⊙ tanh(W_y x + R_y z + b_y)

    The paper's 1 and 2 are d and e here, its V are W, its W are R. At the start all parameters are uniform from
    -1/sqrt(N) to 1/sqrt(N), as in its code.

    Args:
        dt: the longest time step; 1 for most of the paper's tasks.
    """

    dt: float = 1.0

    def affine(self) -> dict[str, str]:
        return {
            "d": "W_d x + R_d y + b_d",
            "e": "W_e x + R_e y + b_e",
            "z": "W_z x + R_z y + b_z",
            "h": "W_y x + R_y z_now + b_y",
        }

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        d = self.dt * sigmoid(pre("d"))
        e = self.dt * sigmoid(pre("e"))
        z = (1.0 - d) * past.z + d * tanh(pre("z"))
        return {"y": (1.0 - e) * past.y + e * tanh(pre("h", z_now=z)), "z": z}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        bound = 1.0 / math.sqrt(len(normal))
        return uniform(normal, -bound, bound)
