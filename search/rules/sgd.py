"""Stochastic gradient descent with momentum."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from search.rules.rule import FRACTION, POSITIVE, Rule


@dataclass(frozen=True)
class SGD(Rule):
    """Momentum as the paper has it (Greff et al. 2015, section IV.B): `lr` is the rate for a steady gradient.

    ::

        v <- m v - e g,   e = lr (1 - m)
        w <- w + m v - e g   (Nesterov's, as of Sutskever et al. 2013 seen from the point ahead)
        w <- w + v           (standard)
    """

    momentum_type: Literal["nesterov", "standard"] = "nesterov"

    hyperparameters: ClassVar = {"lr": POSITIVE, "momentum": FRACTION}
    slots: ClassVar = ("velocity",)

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        change = h.lr * (1.0 - h.momentum) * g
        velocity = h.momentum * slots.velocity - change
        step = h.momentum * velocity - change if self.momentum_type == "nesterov" else velocity
        return {"w": w + step, "velocity": velocity}
