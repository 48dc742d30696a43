"""The depth-gated LSTM."""

from dataclasses import dataclass
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class DepthGatedLSTM(Cell):
    """The depth-gated LSTM (Yao, Cohn, Vylomova, Duh and Dyer 2015, "Depth-gated LSTM", section 3): a gate of
    its own lets the memory of the layer below, c_below, into that of this one. For networks of two layers and more.

    i = sigmoid(W_i x + R_i y_past + p_i ⊙ c_past + b_i)
    f = sigmoid(W_f x + R_f y_past + p_f ⊙ c_past + b_f)
    d = sigmoid(W_d x + p_d ⊙ c_past + q_d ⊙ c_below + b_d)
    c = d ⊙ c_below + f ⊙ c_past + i ⊙ tanh(W_z x + R_z y_past + b_z)
    o = sigmoid(W_o x + R_o y_past + p_o ⊙ c + b_o)
    y = o ⊙ tanh(c)

    The lowest layer has none below it; with c_below = 0 it is an LSTM, whose depth gate is of no effect.
    """

    @property
    def units(self) -> tuple[str, ...]:
        return ("p_i", "p_f", "p_d", "q_d", "p_o")

    def affine(self) -> dict[str, str]:
        return {name: f"W_{name} x + R_{name} y + b_{name}" for name in "zifo"} | {"d": "W_d x + b_d"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        i = sigmoid(pre("i") + p.p_i * past.c)
        f = sigmoid(pre("f") + p.p_f * past.c)
        d = sigmoid(pre("d") + p.p_d * past.c + p.q_d * p.below.c)
        c = d * p.below.c + f * past.c + i * tanh(pre("z"))
        o = sigmoid(pre("o") + p.p_o * c)
        return {"y": o * tanh(c), "c": c}
