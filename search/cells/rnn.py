"""Recurrent networks without gates."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.ops import relu, tanh


@dataclass(frozen=True)
class RNN(Cell):
    """The tanh RNN (Elman 1990).

    Args:
        recurrence: ``diagonal`` puts r ⊙ y_past in the place of R y_past: a unit hears of the past only itself.
    """

    recurrence: Literal["full", "diagonal"] = field(default="full", repr=False)  # checkpoints know a cell by its text

    @property
    def units(self) -> tuple[str, ...]:
        return ("r",) if self.recurrence == "diagonal" else ()

    def affine(self) -> dict[str, str]:
        return {"a": "W x + R y + b" if self.recurrence == "full" else "W x + b"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        return {"y": tanh(pre("a") if self.recurrence == "full" else pre("a") + p.r * past.y)}


@dataclass(frozen=True)
class IRNN(Cell):
    """The ReLU RNN whose recurrence starts as the identity and whose bias as 0 (Le et al. 2015)."""

    def affine(self) -> dict[str, str]:
        return {"a": "W x + R y + b"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        return {"y": relu(pre("a"))}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        match name:
            case "R":
                return np.eye(len(normal))
            case "b":
                return np.zeros_like(normal)
        return normal
