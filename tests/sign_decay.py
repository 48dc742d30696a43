"""An update rule of the tests' own, as a user would write one: sign-SGD (Bernstein et al. 2018) with weight decay."""

from dataclasses import dataclass
from typing import Any, ClassVar

from search.ops import sign
from search.rules import NOT_NEGATIVE, POSITIVE, Rule


@dataclass(frozen=True)
class SignDecay(Rule):
    hyperparameters: ClassVar = {"lr": POSITIVE, "decay": NOT_NEGATIVE}

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        return {"w": w - h.lr * (sign(g) + h.decay * w)}
