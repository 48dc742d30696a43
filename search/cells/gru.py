"""The gated recurrent unit."""

from dataclasses import dataclass, field
from typing import Any, Literal

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class GRU(Cell):
    """The GRU (Cho et al. 2014), whose candidate hears the past output through the reset gate.

    Args:
        recurrence: ``diagonal`` puts r_z ⊙ y_past in the place of R_z y_past, and so in all three: the ParaGRU
            (Danieli et al. 2025, "ParaRNN: unlocking parallel training of nonlinear RNNs for large language models").
    """

    recurrence: Literal["full", "diagonal"] = field(default="full", repr=False)  # checkpoints know a cell by its text

    @property
    def units(self) -> tuple[str, ...]:
        return ("r_z", "r_r", "r_n") if self.recurrence == "diagonal" else ()

    def affine(self) -> dict[str, str]:
        if self.recurrence == "diagonal":
            return {name: f"W_{name} x + b_{name}" for name in "zrn"}
        return {
            "z": "W_z x + R_z y + b_z",
            "r": "W_r x + R_r y + b_r",
            "n": "W_n x + R_n ry + b_n",
        }

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        if self.recurrence == "diagonal":
            z = sigmoid(pre("z") + p.r_z * past.y)
            r = sigmoid(pre("r") + p.r_r * past.y)
            n = tanh(pre("n") + p.r_n * (r * past.y))
            return {"y": (1.0 - z) * past.y + z * n}
        z = sigmoid(pre("z"))
        r = sigmoid(pre("r"))
        n = tanh(pre("n", ry=r * past.y))
        return {"y": (1.0 - z) * past.y + z * n}
