"""The clockwork network."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.ops import floor, tanh, where


@dataclass(frozen=True)
class Clockwork(Cell):
    """The Clockwork RNN (Koutník, Greff, Gomez and Schmidhuber 2014, "A clockwork RNN", section 3). The units stand in
    groups k = 0, 1, ... of equal size, with periods 2^k; a group hears itself and the slower ones, and moves at the
    steps t, from 0 on, that its period divides.

        a = W x + R y_past + b,  R_ij = 0 where unit j is of a faster group than unit i
        y = tanh(a) where t mod 2^k = 0, else y_past

    The zeros of R are no matter of single units. They are made by a matrix R_k for each group, which hears the units
    that group k does and of which its units alone use their rows: the function and the gradients are the paper's, and
    the other rows of R_k are parameters to no end. What no unit uses, rows of other groups and those of a group at the
    steps at which it does not move, need not be computed, and the CPU engine does not (`search.engines.use`).

    Args:
        groups: of units, of which with fewer units than groups some are empty.
    """

    groups: Literal[1, 2, 4, 8] = 4

    def affine(self) -> dict[str, str]:
        return {"a": "W x + b"} | {f"r_{k}": f"R_{k} y_{k}" for k in range(self.groups)}

    def constants(self, n_units: int) -> dict[str, np.ndarray]:
        group = np.arange(n_units) * self.groups // n_units
        of_group = {f"in_{k}": (group == k).astype(float) for k in range(self.groups)}
        heard = {f"heard_{k}": (group >= k).astype(float) for k in range(self.groups)}
        return {"period": 2.0**group} | of_group | heard

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        a = pre("a")
        for k in range(self.groups):
            heard = getattr(p, f"heard_{k}") * past.y
            a = a + getattr(p, f"in_{k}") * pre(f"r_{k}", **{f"y_{k}": heard})
        since = p.t - p.period * floor(p.t / p.period)
        return {"y": where(since, past.y, tanh(a))}
