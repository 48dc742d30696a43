"""The stackable recurrent cell."""

from dataclasses import dataclass
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class STAR(Cell):
    """The STAR cell (Turkoglu, D'Aronco, Wegner and Schindler 2019, "Gating revisited: deep multi-layer RNNs that can
    be trained", section 3), made so that gradients keep their size through many layers.

    k = sigmoid(W_k x + R_k y_past + b_k)
    z = tanh(W_z x + b_z)
    y = tanh((1 - k) ⊙ y_past + k ⊙ z)
    """

    def affine(self) -> dict[str, str]:
        return {"k": "W_k x + R_k y + b_k", "z": "W_z x + b_z"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        k = sigmoid(pre("k"))
        return {"y": tanh((1.0 - k) * past.y + k * tanh(pre("z")))}
