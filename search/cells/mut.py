"""The three cells that a search over ten thousand architectures found."""

from dataclasses import dataclass
from typing import Any

from search.cells.cell import Cell, Preactivations
from search.ops import sigmoid, tanh


@dataclass(frozen=True)
class MUT1(Cell):
    """MUT1 (Jozefowicz, Zaremba and Sutskever 2015, "An empirical exploration of recurrent network architectures",
    section 3, the first of the three displayed cells).

        z = sigmoid(W_z x + b_z)
        r = sigmoid(W_r x + R_r y_past + b_r)
        y = tanh(R_h (r ⊙ y_past) + tanh(P x) + b_h) ⊙ z + y_past ⊙ (1 - z)

    The paper writes tanh(x), which is as wide as y there; here x may have any width, and P [N, M] brings it to N units.
    """

    def affine(self) -> dict[str, str]:
        return {"z": "W_z x + b_z", "r": "W_r x + R_r y + b_r", "p": "P x", "h": "R_h ry + b_h"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        z = sigmoid(pre("z"))
        r = sigmoid(pre("r"))
        h = tanh(pre("h", ry=r * past.y) + tanh(pre("p")))
        return {"y": h * z + past.y * (1.0 - z)}


@dataclass(frozen=True)
class MUT2(Cell):
    """MUT2 (Jozefowicz, Zaremba and Sutskever 2015, section 3, the second of the three displayed cells).

        z = sigmoid(W_z x + R_z y_past + b_z)
        r = sigmoid(P x + R_r y_past + b_r)
        y = tanh(R_h (r ⊙ y_past) + W_h x + b_h) ⊙ z + y_past ⊙ (1 - z)

    The paper writes x for P x, as x is as wide as y there. With P in its place these are the equations of the GRU
    (`search.cells.gru`), under names of their own and in another order.
    """

    def affine(self) -> dict[str, str]:
        return {"z": "W_z x + R_z y + b_z", "r": "P x + R_r y + b_r", "h": "W_h x + R_h ry + b_h"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        z = sigmoid(pre("z"))
        r = sigmoid(pre("r"))
        return {"y": tanh(pre("h", ry=r * past.y)) * z + past.y * (1.0 - z)}


@dataclass(frozen=True)
class MUT3(Cell):
    """MUT3 (Jozefowicz, Zaremba and Sutskever 2015, section 3, the third of the three displayed cells).

    z = sigmoid(W_z x + R_z tanh(y_past) + b_z)
    r = sigmoid(W_r x + R_r y_past + b_r)
    y = tanh(R_h (r ⊙ y_past) + W_h x + b_h) ⊙ z + y_past ⊙ (1 - z)
    """

    def affine(self) -> dict[str, str]:
        return {"z": "W_z x + R_z u + b_z", "r": "W_r x + R_r y + b_r", "h": "W_h x + R_h ry + b_h"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        z = sigmoid(pre("z", u=tanh(past.y)))
        r = sigmoid(pre("r"))
        return {"y": tanh(pre("h", ry=r * past.y)) * z + past.y * (1.0 - z)}
