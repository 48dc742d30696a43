"""The simple recurrent unit."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid


@dataclass(frozen=True)
class SRU(Cell):
    """The SRU (Lei, Zhang, Wang, Dai and Artzi 2018, "Simple recurrent units for highly parallelizable recurrence",
    equations 1 to 4).

        f = sigmoid(W_f x + v_f ⊙ c_past + b_f)
        c = f ⊙ c_past + (1 - f) ⊙ (W x)
        r = sigmoid(W_r x + v_r ⊙ c_past + b_r)
        y = r ⊙ c + alpha (1 - r) ⊙ (W_h x),  alpha = sqrt(1 + 2 exp(highway_bias))

    In the paper the highway carries x itself; where x has another width than y, its code too has a matrix W_h.

    Args:
        highway_bias: added to b_r at initialisation, and in alpha, which keeps the size of the signal at the start.
    """

    highway_bias: float = 0.0

    @property
    def units(self) -> tuple[str, ...]:
        return ("v_f", "v_r")

    def affine(self) -> dict[str, str]:
        return {"z": "W x", "f": "W_f x + b_f", "r": "W_r x + b_r", "h": "W_h x"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        f = sigmoid(pre("f") + p.v_f * past.c)
        c = f * past.c + (1.0 - f) * pre("z")
        r = sigmoid(pre("r") + p.v_r * past.c)
        scale = math.sqrt(1.0 + 2.0 * math.exp(self.highway_bias))
        return {"y": r * c + scale * ((1.0 - r) * pre("h")), "c": c}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        return normal + self.highway_bias if name == "b_r" else normal
