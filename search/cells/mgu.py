"""The minimal gated unit."""

from dataclasses import dataclass
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class MGU(Cell):
    """The MGU (Zhou, Wu, Zhang and Zhou 2016, "Minimal gated unit for recurrent neural networks", section 3): a GRU
    whose one gate resets and updates.

    f = sigmoid(W_f x + R_f y_past + b_f)
    h = tanh(W_h x + R_h (f ⊙ y_past) + b_h)
    y = (1 - f) ⊙ y_past + f ⊙ h
    """

    def affine(self) -> dict[str, str]:
        return {"f": "W_f x + R_f y + b_f", "h": "W_h x + R_h fy + b_h"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        f = sigmoid(pre("f"))
        return {"y": (1.0 - f) * past.y + f * tanh(pre("h", fy=f * past.y))}
