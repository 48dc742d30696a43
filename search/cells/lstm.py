"""The LSTM family: the vanilla LSTM with peepholes and every combination of its eight changes."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.ops import identity, sigmoid, tanh


@dataclass(frozen=True)
class LSTM(Cell):
    """The LSTM of Greff et al. 2015, section II, with each of its parts as a toggle (section III).

    Args:
        input_gate: ``one`` removes it (NIG).
        forget_gate: ``one`` removes it (NFG), ``coupled`` makes it 1 - input gate (CIFG).
        output_gate: ``one`` removes it (NOG).
        input_activation: ``identity`` removes g (NIAF).
        output_activation: ``identity`` removes h (NOAF).
        peephole_i, peephole_f, peephole_o: whether that gate sees the cell (all false: NP).
        gate_recurrence: every gate also hears every gate of the step before (FGR).
        forget_bias: added to b_f at initialisation.
    """

    input_gate: Literal["sigmoid", "one"] = "sigmoid"
    forget_gate: Literal["sigmoid", "one", "coupled"] = "sigmoid"
    output_gate: Literal["sigmoid", "one"] = "sigmoid"
    input_activation: Literal["tanh", "identity"] = "tanh"
    output_activation: Literal["tanh", "identity"] = "tanh"
    peephole_i: bool = True
    peephole_f: bool = True
    peephole_o: bool = True
    gate_recurrence: bool = False
    forget_bias: float = 0.0

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates that have weights of their own; a removed or coupled gate neither sends nor receives."""
        kinds = {"i": self.input_gate, "f": self.forget_gate, "o": self.output_gate}
        return tuple(gate for gate, kind in kinds.items() if kind == "sigmoid")

    @property
    def units(self) -> tuple[str, ...]:
        seen = {"i": self.peephole_i, "f": self.peephole_f, "o": self.peephole_o}
        return tuple(f"p_{gate}" for gate in self.gates if seen[gate])

    def affine(self) -> dict[str, str]:
        def hears(gate: str) -> str:
            senders = self.gates if self.gate_recurrence else ()
            return " + ".join([f"W_{gate} x", f"R_{gate} y", *(f"R_{s}{gate} {s}" for s in senders), f"b_{gate}"])

        return {"z": "W_z x + R_z y + b_z"} | {gate: hears(gate) for gate in self.gates}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        def gate(name: str, cell: Any) -> Any:
            peephole = f"p_{name}"
            return sigmoid(pre(name) + getattr(p, peephole) * cell if peephole in self.units else pre(name))

        g = tanh if self.input_activation == "tanh" else identity
        h = tanh if self.output_activation == "tanh" else identity

        z = g(pre("z"))
        i = gate("i", past.c) if self.input_gate == "sigmoid" else 1.0
        match self.forget_gate:
            case "sigmoid":
                f = gate("f", past.c)
            case "coupled":
                f = 1.0 - i
            case "one":
                f = 1.0
        c = z * i + past.c * f
        o = gate("o", c) if self.output_gate == "sigmoid" else 1.0
        y = h(c) * o
        return {"y": y, "c": c, "i": i, "f": f, "o": o}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        return normal + self.forget_bias if name == "b_f" else normal
