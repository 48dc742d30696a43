"""The recurrent additive network."""

from dataclasses import dataclass
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class RAN(Cell):
    """The RAN (Lee, Levy and Zettlemoyer 2017, "Recurrent additive networks", section 2), whose cell is a weighted sum
    of linear maps of the inputs.

        z = W_z x
        i = sigmoid(W_i x + R_i y_past + b_i)
        f = sigmoid(W_f x + R_f y_past + b_f)
        c = i ⊙ z + f ⊙ c_past
        y = tanh(c)

    The paper also tries y = c.
    """

    def affine(self) -> dict[str, str]:
        return {"z": "W_z x", "i": "W_i x + R_i y + b_i", "f": "W_f x + R_f y + b_f"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        c = sigmoid(pre("i")) * pre("z") + sigmoid(pre("f")) * past.c
        return {"y": tanh(c), "c": c}
