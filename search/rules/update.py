"""An update rule with what composes with every rule: clipping of gradients, and a schedule of the learning rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from search.expression import Expr
from search.ops import maximum, minimum
from search.rules.rule import Rule
from search.rules.trace import Floats, Program, trace

SCHEDULES = ("constant", "step", "cosine", "inverse_sqrt")


@dataclass(frozen=True)
class Schedule:
    """The factor on the learning rate by the time e in epochs, which is the number of the update over updates an epoch.

    In the first `warmup` epochs the factor rises linearly to 1; it is that, times

    - ``constant``: 1;
    - ``step``: `decay` to the power floor(e / period);
    - ``cosine``: (1 + cos(pi min(e / period, 1))) / 2 (Loshchilov and Hutter 2017, without restarts);
    - ``inverse_sqrt``: 1 / sqrt(max(1, e / period)) (Vaswani et al. 2017, with `warmup` as `period`).
    """

    name: str = "constant"
    warmup: float = 0.0
    period: float = 1.0
    decay: float = 0.1

    def factors(self, times: Floats, n_updates: int) -> Floats:
        """The factor at each update.

        Args:
            times: numbers of updates, from 1.
            n_updates: in an epoch.
        """
        epochs = (times - 1.0) / n_updates
        shape = {
            "constant": lambda e: np.ones_like(e),
            "step": lambda e: self.decay ** np.floor(e / self.period),
            "cosine": lambda e: 0.5 * (1.0 + np.cos(np.pi * np.minimum(e / self.period, 1.0))),
            "inverse_sqrt": lambda e: 1.0 / np.sqrt(np.maximum(1.0, e / self.period)),
        }[self.name](epochs)
        rising = np.minimum(1.0, times / (self.warmup * n_updates)) if self.warmup > 0 else 1.0
        return np.asarray(shape * rising)


@dataclass(frozen=True, eq=False)
class Update:
    """What is done with the weights of a member after each sequence.

    Attributes:
        rule: the equations.
        hyper: value of each hyperparameter.
        clip_value: bound of the absolute value of each gradient; infinite for none.
        clip_norm: bound of the Euclidean norm of all gradients together, to which larger ones are scaled down (Pascanu
            et al. 2013, algorithm 1); infinite for none. It comes before `clip_value`.
        schedule: of the learning rate.
    """

    rule: Rule
    hyper: Mapping[str, float]
    clip_value: float = math.inf
    clip_norm: float = math.inf
    schedule: Schedule = field(default_factory=Schedule)

    @cached_property
    def program(self) -> Program:
        """The equations with clipping."""

        def clipped(g: Expr) -> Expr:
            if math.isfinite(self.clip_norm):
                g = g.graph.leaf("scale", "") * g
            if math.isfinite(self.clip_value):
                bound = g.graph.leaf("hyper", "clip_value")
                g = maximum(minimum(g, bound), -bound)
            return g

        return trace(self.rule, clipped)

    @property
    def signature(self) -> str:
        """The equations as text."""
        return self.program.signature

    @property
    def scale_place(self) -> int:
        """Which of the shared values is that of `Program.scale`; -1 if none is."""
        return self.program.shared.index(self.program.scale) if self.program.scale >= 0 else -1

    def scheduled(self, epoch: int, n_updates: int) -> tuple[Floats, dict[str, Any]]:
        """Numbers of the updates of an epoch [U], and the hyperparameters at each: one number, or [U].

        Args:
            epoch: how many came before.
            n_updates: in an epoch.
        """
        times = np.arange(1.0, n_updates + 1.0) + epoch * n_updates
        return times, {**self.hyper, "lr": self.hyper["lr"] * self.schedule.factors(times, n_updates)}

    def shared_values(self, epoch: int, n_updates: int) -> Floats:
        """`Program.shared_values` of the updates of an epoch; for ``scale`` stands the bound of the norm."""
        times, hyper = self.scheduled(epoch, n_updates)
        bound = np.full(n_updates, self.clip_norm)
        return self.program.shared_values({**hyper, "clip_value": self.clip_value}, times, bound)
