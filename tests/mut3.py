"""A cell of the tests' own, as a user would write one: MUT3 of Jozefowicz et al. 2015."""

from dataclasses import dataclass
from typing import Any

from search.cells import Cell, Preactivations
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class MUT3(Cell):
    def affine(self) -> dict[str, str]:
        return {"z": "W_z x + R_z u + b_z", "r": "W_r x + R_r y + b_r", "h": "W_h x + R_h ry + b_h"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        z = sigmoid(pre("z", u=tanh(past.y)))
        r = sigmoid(pre("r"))
        return {"y": tanh(pre("h", ry=r * past.y)) * z + past.y * (1.0 - z)}
