"""The gated recurrent unit."""

from dataclasses import dataclass
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class GRU(Cell):
    """The GRU (Cho et al. 2014), whose candidate hears the past output through the reset gate."""

    def affine(self) -> dict[str, str]:
        return {
            "z": "W_z x + R_z y + b_z",
            "r": "W_r x + R_r y + b_r",
            "n": "W_n x + R_n ry + b_n",
        }

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        z = sigmoid(pre("z"))
        r = sigmoid(pre("r"))
        n = tanh(pre("n", ry=r * past.y))
        return {"y": (1.0 - z) * past.y + z * n}
