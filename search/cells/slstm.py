"""The LSTM with exponential gates."""

from dataclasses import dataclass
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import exp, log_sigmoid, maximum, sigmoid, tanh, where

LOWEST = -1e30  # of a logarithm, in either dtype


@dataclass(frozen=True)
class SLSTM(Cell):
    """The sLSTM (Beck et al. 2024, "xLSTM: extended long short-term memory", equations 8 to 17).

        z = tanh(W_z x + R_z y_past + b_z)
        o = sigmoid(W_o x + R_o y_past + b_o)
        a_i = W_i x + R_i y_past + b_i                 the input gate is exp(a_i)
        a_f = W_f x + R_f y_past + b_f                 the forget gate is sigmoid(a_f)
        m = max(log sigmoid(a_f) + m_past, a_i)        stabiliser
        i = exp(a_i - m)
        f = exp(log sigmoid(a_f) + m_past - m)
        c = f ⊙ c_past + i ⊙ z
        n = f ⊙ n_past + i                             normaliser
        y = o ⊙ c / n

    Of the paper's two forget gates, sigmoid and exp, this is sigmoid, as in its code. At the first step m_past is as
    good as minus infinity, so that m is a_i and i is 1, as in its code too: with 0 a small a_i would leave n at 0. m
    changes no y, it only keeps i and f at 1 or below. Nor does b_i, by which c and n are scaled alike.

    This is one head, whose R are full; with several the paper's R are blocks on a diagonal. The normalisation of each
    head and the block around the cell, which sum over units, are not part of it.
    """

    def affine(self) -> dict[str, str]:
        return {name: f"W_{name} x + R_{name} y + b_{name}" for name in "zifo"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        kept, new = where(p.t, log_sigmoid(pre("f")) + past.m, LOWEST), pre("i")
        m = maximum(kept, new)
        i, f = exp(new - m), exp(kept - m)
        c = f * past.c + i * tanh(pre("z"))
        n = f * past.n + i
        return {"y": sigmoid(pre("o")) * (c / n), "c": c, "n": n, "m": m}
