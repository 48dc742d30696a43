"""The linear recurrent unit."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.cells.cell import Cell, Preactivations
from search.cells.draws import standard, uniform
from search.ops import cos, exp, sin


@dataclass(frozen=True)
class LRU(Cell):
    """The LRU (Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu and De 2023, "Resurrecting recurrent neural networks for
    long sequences", section 3), a diagonal linear recurrence in complex numbers; s is the state.

        lambda = exp(-exp(nu) + i exp(theta))
        s = lambda ⊙ s_past + exp(gamma) ⊙ (B x)
        y = Re(C s) + D x

    A complex number is two real ones: the state is u + i v, B is B_u + i B_v, and C_v is minus the imaginary part of C.
    In the paper D is diagonal, as x is as wide as y there; here it is a matrix.

    At the start, as in the paper (its lemma 3.2), lambda is uniform on the ring from `r_min` to `r_max` of the complex
    plane with phases up to `max_phase`, and exp(gamma) is sqrt(1 - |lambda|^2). That ties gamma to nu, of which each is
    given draws of its own here; so |lambda|^2 is not drawn but spread evenly over the units.

    Args:
        r_min, r_max: bounds of |lambda| at the start, from 0 up to below 1.
        max_phase: the largest phase of lambda at the start, above 0.
    """

    r_min: float = 0.0
    r_max: float = 0.99
    max_phase: float = 2.0 * math.pi

    @property
    def units(self) -> tuple[str, ...]:
        return ("nu", "theta", "gamma")

    def affine(self) -> dict[str, str]:
        return {"bu": "B_u x", "bv": "B_v x", "y": "C_u u_now + C_v v_now + D x"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        size, phase, gain = exp(-exp(p.nu)), exp(p.theta), exp(p.gamma)
        real, imaginary = size * cos(phase), size * sin(phase)
        u = real * past.u - imaginary * past.v + gain * pre("bu")
        v = imaginary * past.u + real * past.v + gain * pre("bv")
        return {"y": pre("y", u_now=u, v_now=v), "u": u, "v": v}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        n = len(normal)
        squared = self.r_min**2 + (self.r_max**2 - self.r_min**2) * (np.arange(n) + 0.5) / n  # |lambda|^2
        match name:
            case "nu":
                return np.log(-0.5 * np.log(squared))
            case "gamma":
                return 0.5 * np.log(1.0 - squared)
            case "theta":
                return np.log(uniform(normal, 0.0, self.max_phase))
            case "B_u" | "B_v":
                return standard(normal) / math.sqrt(2 * normal.shape[1])
            case "C_u" | "C_v":
                return standard(normal) / math.sqrt(n)
        return normal
