"""Rules whose step for each weight adapts to the gradients that it has had."""

from dataclasses import dataclass
from typing import Any, ClassVar

from search.ops import exp, log, maximum, minimum, sign, sqrt, where
from search.rules.rule import FRACTION, NOT_NEGATIVE, POSITIVE, Range, Rule


@dataclass(frozen=True)
class RMSprop(Rule):
    """Division by a running root mean square (Tieleman and Hinton 2012, lecture 6e)::

    s <- rho s + (1 - rho) g^2
    w <- w - lr g / (sqrt(s) + eps)
    """

    hyperparameters: ClassVar = {"lr": POSITIVE, "rho": FRACTION, "eps": POSITIVE}
    slots: ClassVar = ("s",)

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        s = h.rho * slots.s + (1.0 - h.rho) * (g * g)
        return {"w": w - h.lr * (g / (sqrt(s) + h.eps)), "s": s}


@dataclass(frozen=True)
class Adam(Rule):
    """Adaptive moments (Kingma and Ba 2015, algorithm 1)::

    m <- beta1 m + (1 - beta1) g,   m' = m / (1 - beta1^t)
    v <- beta2 v + (1 - beta2) g^2, v' = v / (1 - beta2^t)
    w <- w - lr m' / (sqrt(v') + eps)
    """

    hyperparameters: ClassVar = {"lr": POSITIVE, "beta1": FRACTION, "beta2": FRACTION, "eps": POSITIVE}
    slots: ClassVar = ("m", "v")

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        m = h.beta1 * slots.m + (1.0 - h.beta1) * g
        v = h.beta2 * slots.v + (1.0 - h.beta2) * (g * g)
        first, second = (1.0 / (1.0 - exp(t * log(beta))) for beta in (h.beta1, h.beta2))
        return {"w": w - h.lr * first * (m / (sqrt(second * v) + h.eps)), "m": m, "v": v}


@dataclass(frozen=True)
class AdamW(Adam):
    """`Adam` with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2, the schedule on both)::

    w <- (1 - lr decay) w - lr m' / (sqrt(v') + eps)
    """

    hyperparameters: ClassVar = Adam.hyperparameters | {"decay": NOT_NEGATIVE}

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        return super().step(g, w * (1.0 - h.lr * h.decay), slots, t, h)


@dataclass(frozen=True)
class Adagrad(Rule):
    """Division by the root of the sum of squares (Duchi et al. 2011, section 1.1, diagonal)::

    s <- s + g^2
    w <- w - lr g / (sqrt(s) + eps)
    """

    hyperparameters: ClassVar = {"lr": POSITIVE, "eps": POSITIVE}
    slots: ClassVar = ("s",)

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        s = slots.s + g * g
        return {"w": w - h.lr * (g / (sqrt(s) + h.eps)), "s": s}


@dataclass(frozen=True)
class Lion(Rule):
    """Evolved sign momentum (Chen et al. 2023, program 1)::

    w <- w - lr (sign(beta1 m + (1 - beta1) g) + decay w)
    m <- beta2 m + (1 - beta2) g
    """

    hyperparameters: ClassVar = {"lr": POSITIVE, "beta1": FRACTION, "beta2": FRACTION, "decay": NOT_NEGATIVE}
    slots: ClassVar = ("m",)

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        direction = sign(h.beta1 * slots.m + (1.0 - h.beta1) * g)
        return {"w": w - h.lr * (direction + h.decay * w), "m": h.beta2 * slots.m + (1.0 - h.beta2) * g}


@dataclass(frozen=True)
class Rprop(Rule):
    """Resilient propagation, variant Rprop- (Riedmiller and Braun 1993; Igel and Huesken 2000, section 2.2).

    The size of a weight's step grows while its gradient keeps its sign, and shrinks where it has changed::

    d <- min(up d, most) if g g' > 0, max(down d, least) if g g' < 0, else d;   d = lr at first
        w <- w - sign(g) d,   g' <- g

    Made for gradients of the whole training set; here each update is of one sequence.
    """

    hyperparameters: ClassVar = {
        "lr": POSITIVE,
        "up": Range(low=1.0, with_low=False),
        "down": Range(high=1.0, with_low=False),
        "least": POSITIVE,
        "most": POSITIVE,
    }
    slots: ClassVar = ("size", "before")

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        size, agree = where(2.0 - t, h.lr, slots.size), g * slots.before
        grown, shrunk = minimum(h.up * size, h.most), maximum(h.down * size, h.least)
        size = where(agree, grown, where(-agree, shrunk, size))
        return {"w": w - sign(g) * size, "size": size, "before": g}
