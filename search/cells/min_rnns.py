"""The minGRU and the minLSTM, whose gates and candidates hear the input alone."""

from dataclasses import dataclass
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid, where


def positive(v: Any) -> Any:
    """g of the paper's log-space form (appendix B): v + 0.5 above 0, sigmoid(v) elsewhere, and so above 0 everywhere"""
    return where(v, v + 0.5, sigmoid(v))


@dataclass(frozen=True)
class MinGRU(Cell):
    """The minGRU (Feng, Tung, Ahmed, Bengio and Hajimirsadeghi 2024, "Were RNNs all we needed?", section 3.1).

        z = sigmoid(W_z x + b_z)
        y = (1 - z) ⊙ y_past + z ⊙ g(W_h x + b_h)

    Of the paper's two forms, with and without g, this is that of appendix B: g makes y positive, so that the recurrence
    can be computed in logarithms. Here it is computed as written, and begins at 0, not at g(0).
    """

    def affine(self) -> dict[str, str]:
        return {"z": "W_z x + b_z", "h": "W_h x + b_h"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        z = sigmoid(pre("z"))
        return {"y": (1.0 - z) * past.y + z * positive(pre("h"))}


@dataclass(frozen=True)
class MinLSTM(Cell):
    """The minLSTM (Feng et al. 2024, section 3.2, with g as `MinGRU` has it), whose gates are divided by their sum.

    f = sigmoid(W_f x + b_f)
    i = sigmoid(W_i x + b_i)
    y = f / (f + i) ⊙ y_past + i / (f + i) ⊙ g(W_h x + b_h)
    """

    def affine(self) -> dict[str, str]:
        return {"f": "W_f x + b_f", "i": "W_i x + b_i", "h": "W_h x + b_h"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        f = sigmoid(pre("f"))
        i = sigmoid(pre("i"))
        return {"y": (f * past.y + i * positive(pre("h"))) / (f + i)}
