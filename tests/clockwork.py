"""A cell with constants and time: units that change at every 1st, 2nd, 4th or 8th step, after Koutnik et al. 2014."""

from typing import Any

import numpy as np

from search.cells import Cell, Preactivations
from search.ops import floor, tanh, where


class Clockwork(Cell):
    def affine(self) -> dict[str, str]:
        return {"a": "W x + R y + b"}

    def constants(self, n_units: int) -> dict[str, np.ndarray]:
        return {"period": 2.0 ** (np.arange(n_units) % 4)}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        since = p.t - p.period * floor(p.t / p.period)
        return {"y": where(since, past.y, tanh(pre("a")))}
