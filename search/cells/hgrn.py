"""The hierarchically gated recurrent network."""

from dataclasses import dataclass
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid


@dataclass(frozen=True)
class HGRN(Cell):
    """The recurrence of HGRN in its real form (Qin, Yang and Zhong 2023, "Hierarchically gated recurrent neural network
    for sequence modeling", section 3; without the phase of the forget gate, which it compares in its ablations).

        f = gamma + (1 - gamma) sigmoid(W_f x + b_f)
        h = f ⊙ h_past + (1 - f) ⊙ silu(W_h x + b_h),  silu(v) = v sigmoid(v)
        y = h ⊙ sigmoid(W_o x + b_o)

    The paper learns gamma for each unit of a layer as a sum over the layers below, 0 in the first: parameters of
    several layers, which no cell has. Here it is a number, and 0 is the paper's network of one layer. It normalises y
    over the units and multiplies by a matrix; the first is no elementwise step, the second is what the next layer does.

    Args:
        lower_bound: gamma, of the forget gate, from 0 up to below 1.
    """

    lower_bound: float = 0.0

    def affine(self) -> dict[str, str]:
        return {name: f"W_{name} x + b_{name}" for name in "fho"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        f = self.lower_bound + (1.0 - self.lower_bound) * sigmoid(pre("f"))
        h = f * past.h + (1.0 - f) * (pre("h") * sigmoid(pre("h")))
        return {"y": h * sigmoid(pre("o")), "h": h}
