"""The LSTM family: the vanilla LSTM with peepholes and every combination of its eight changes."""

from dataclasses import dataclass, field
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
        recurrence: ``diagonal`` puts r_z ⊙ y_past in the place of R_z y_past, and so for every recurrent matrix: a unit
            hears of the past only itself. With ``coupled`` it is the ParaLSTM (Danieli et al. 2025, "ParaRNN: unlocking
            parallel training of nonlinear RNNs for large language models"), whose forget gate is 1 - i here.
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
    recurrence: Literal["full", "diagonal"] = field(default="full", repr=False)  # checkpoints know a cell by its text
    forget_bias: float = 0.0

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates that have weights of their own; a removed or coupled gate neither sends nor receives."""
        kinds = {"i": self.input_gate, "f": self.forget_gate, "o": self.output_gate}
        return tuple(gate for gate, kind in kinds.items() if kind == "sigmoid")

    def heard(self, name: str) -> dict[str, str]:
        """What the block input or a gate hears of the step before: the state by the index of its weights."""
        senders = self.gates if self.gate_recurrence and name != "z" else ()
        return {name: "y"} | {f"{s}{name}": s for s in senders}

    @property
    def units(self) -> tuple[str, ...]:
        seen = {"i": self.peephole_i, "f": self.peephole_f, "o": self.peephole_o}
        peepholes = tuple(f"p_{gate}" for gate in self.gates if seen[gate])
        if self.recurrence == "full":
            return peepholes
        return (*peepholes, *(f"r_{index}" for name in ("z", *self.gates) for index in self.heard(name)))

    def affine(self) -> dict[str, str]:
        def hears(name: str) -> str:
            products = [f"R_{index} {state}" for index, state in self.heard(name).items()]
            return " + ".join([f"W_{name} x", *(products if self.recurrence == "full" else ()), f"b_{name}"])

        return {name: hears(name) for name in ("z", *self.gates)}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        def sum_of(name: str) -> Any:
            total = pre(name)
            if self.recurrence == "diagonal":
                for index, state in self.heard(name).items():
                    total = total + getattr(p, f"r_{index}") * getattr(past, state)
            return total

        def gate(name: str, cell: Any) -> Any:
            peephole = f"p_{name}"
            return sigmoid(sum_of(name) + getattr(p, peephole) * cell if peephole in self.units else sum_of(name))

        g = tanh if self.input_activation == "tanh" else identity
        h = tanh if self.output_activation == "tanh" else identity

        z = g(sum_of("z"))
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
