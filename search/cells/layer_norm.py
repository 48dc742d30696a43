"""The LSTM with layer normalisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.ops import mean, sigmoid, sqrt, tanh

EPSILON = 1e-5  # below the standard deviation, for values that are all the same


@dataclass(frozen=True)
class LayerNormLSTM(Cell):
    """The LSTM with layer normalisation (Ba, Kiros and Hinton 2016, "Layer normalization", supplement, equations 20 to
    22): without peepholes.

    (z, i, f, o) = LN((W_z, W_i, W_f, W_o) x; g_x) + LN((R_z, R_i, R_f, R_o) y_past; g_y) + b
    c = sigmoid(f) ⊙ c_past + sigmoid(i) ⊙ tanh(z)
    y = sigmoid(o) ⊙ tanh(LN(c; g_c) + b_c)

    LN(v; g) is g ⊙ (v - m) / sqrt(s + 1e-5), where m and s are mean and variance of v over all 4N numbers of the four
    products together, or over the N of c. The gains g begin as 1 and the biases as 0.
    """

    @property
    def units(self) -> tuple[str, ...]:
        return (*(f"{kind}_{gate}" for kind in ("g_x", "g_y", "b") for gate in "zifo"), "g_c", "b_c")

    def affine(self) -> dict[str, str]:
        return {f"x{gate}": f"W_{gate} x" for gate in "zifo"} | {f"y{gate}": f"R_{gate} y" for gate in "zifo"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        of_x, of_y = (normalised([pre(f"{source}{gate}") for gate in "zifo"]) for source in "xy")
        z, i, f, o = (
            getattr(p, f"g_x_{gate}") * x + getattr(p, f"g_y_{gate}") * y + getattr(p, f"b_{gate}")
            for gate, x, y in zip("zifo", of_x, of_y, strict=True)
        )
        c = sigmoid(f) * past.c + sigmoid(i) * tanh(z)
        (whole,) = normalised([c])
        return {"y": sigmoid(o) * tanh(p.g_c * whole + p.b_c), "c": c}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        if name in self.units:
            return np.full_like(normal, 1.0 if name.startswith("g_") else 0.0)
        return normal


def normalised(parts: Sequence[Any]) -> list[Any]:
    """The vectors of N numbers each as one, less its mean and divided by its standard deviation."""
    share = 1.0 / len(parts)
    centre = share * sum(map(mean, parts))
    apart = [part - centre for part in parts]
    variance = share * sum(mean(part * part) for part in apart)
    return [part / sqrt(variance + EPSILON) for part in apart]
