"""The Grid LSTM of two dimensions."""

from dataclasses import dataclass, field
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class GridLSTM(Cell):
    """The 2-LSTM (Kalchbrenner, Danihelka and Graves 2016, "Grid long short-term memory", section 3.1): an LSTM along
    time and one along depth, each with a memory of its own, both of which hear both hidden vectors. Here with biases.
    For networks of two layers and more.

    u = sigmoid(W_u x + R_u h_past + b_u), and so f, o; z = tanh(W_z x + R_z h_past + b_z)
    c = f ⊙ c_past + u ⊙ z
    h = tanh(o ⊙ c)

    along time, and along depth, with weights of its own (``W_ud`` for ``W_u``, ...), of the same x and h_past,

    m = f ⊙ m_below + u ⊙ z
    y = tanh(o ⊙ m)

    x is y of the layer below, and of the lowest the input; m_below is there 0.

    Args:
        tied: the layers but the lowest have one set of weights and biases, those of the LSTM along time as of that
            along depth: weights shared along the depth, as the paper's tied 2-LSTM has them. There all layers share
            them, and what the lowest hears is the input times a matrix that makes N numbers of it. Here the lowest
            layer has weights of its own, for the input is not of N numbers, and is what turns it into those; so that
            with two layers nothing is shared yet.
    """

    tied: bool = field(default=False, repr=False)  # checkpoints know a cell by its text

    @property
    def layers_tied(self) -> bool:
        return self.tied

    def affine(self) -> dict[str, str]:
        return {name: f"W_{name} x + R_{name} h + b_{name}" for name in ("u", "f", "o", "z", "ud", "fd", "od", "zd")}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        c = sigmoid(pre("f")) * past.c + sigmoid(pre("u")) * tanh(pre("z"))
        h = tanh(sigmoid(pre("o")) * c)
        m = sigmoid(pre("fd")) * p.below.m + sigmoid(pre("ud")) * tanh(pre("zd"))
        return {"y": tanh(sigmoid(pre("od")) * m), "h": h, "c": c, "m": m}
