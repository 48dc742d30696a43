"""What an update rule is: its equations, and what can be read off them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from search.cells.cell import Names
from search.errors import UserError
from search.expression import EquationError
from search.own import Toggled, explained
from search.rules.trace import Program, trace

_WEIGHT = "w"


@dataclass(frozen=True)
class Range:
    """The values that a hyperparameter may have.

    Attributes:
        low, high: bounds.
        with_low: whether `low` itself is legal; `high` never is.
    """

    low: float = 0.0
    high: float = math.inf
    with_low: bool = True

    def __contains__(self, value: object) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return number and (value > self.low or (self.with_low and value == self.low)) and value < self.high  # type: ignore[operator]

    def __str__(self) -> str:
        above = f"of at least {self.low:g}" if self.with_low else f"above {self.low:g}"
        return f"a number {above}" + ("" if self.high == math.inf else f" and below {self.high:g}")


POSITIVE = Range(with_low=False)
NOT_NEGATIVE = Range()
FRACTION = Range(high=1.0)


@dataclass(frozen=True)
class Rule(Toggled):
    """An update rule, written as its equations.

    A subclass declares its hyperparameters and its slots, and gives the update of one weight in `step`. Everything else
    (the kernels, what a checkpoint holds, what a space may sample) is derived. Fields of the subclass are its toggles,
    each a bool, int, float or Literal.

    Example, sign-SGD with decay::

        class SignSGD(Rule):
            hyperparameters = {"lr": POSITIVE, "decay": NOT_NEGATIVE}

            def step(self, g, w, slots, t, h):
                return {"w": w - h.lr * (sign(g) + h.decay * w)}

    A rule must leave a weight at 0 whose gradients are all 0: engines pad with such weights.

    Attributes:
        hyperparameters: by name the values that each may have; ``lr`` is the one that schedules change.
        slots: names of what is kept for every weight from one update to the next, 0 at first.
    """

    hyperparameters: ClassVar[Mapping[str, Range]] = {}
    slots: ClassVar[Sequence[str]] = ()

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        """The equations of one update, element by element, in ``+ - * /``, ``** 2``, numbers and `search.ops`.

        Args:
            g: d loss / d weight.
            w: the weight.
            slots: the slots as attributes.
            t: number of the update, from 1.
            h: the hyperparameters as attributes.

        Returns:
            the new ``w``, and the new value of each slot by its name
        """
        raise EquationError('missing; it gives the equations of an update, e.g. {"w": w - h.lr * g}')

    @cached_property
    def program(self) -> Program:
        """`step`, recorded."""
        with explained(type(self), "step"):
            return trace(self)

    def evaluated(
        self, g: Any, w: Any, slots: Mapping[str, Any], t: Any, h: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """`step` on numbers or arrays: the new weights and slots."""
        new = dict(self.step(g, w, Names(slots), t, Names(h)))
        return new.pop(_WEIGHT), new


def check(rule: Rule) -> Rule:
    """The rule, once its declarations and its equations are known to fit together.

    Raises:
        UserError: they do not, or its code raises; one line that names the file and the line.
    """
    kind = type(rule)
    with explained(kind, "hyperparameters"):
        named = isinstance(rule.hyperparameters, Mapping) and all(
            isinstance(each, Range) for each in rule.hyperparameters.values()
        )
        if not named:
            raise EquationError('expected a dict of ranges, e.g. {"lr": POSITIVE}')
        if "lr" not in rule.hyperparameters:
            raise EquationError("has no lr, which every rule needs: the learning rate")
    with explained(kind, "slots"):
        if not isinstance(rule.slots, tuple) or not all(isinstance(name, str) for name in rule.slots):
            raise EquationError('expected a tuple of names, e.g. ("m", "v")')
        names = [*rule.slots, *rule.hyperparameters]
        for name in names:
            if not name.isidentifier() or names.count(name) > 1 or name in (_WEIGHT, "g", "t"):
                raise EquationError(f"{name!r}: expected a name that nothing else has")
    with explained(kind, "step"):
        if trace(rule) != rule.program:
            raise EquationError("has other equations when it is called again; expected the same at every update")
    return rule


def check_rest(rule: Rule, values: Mapping[str, float]) -> None:
    """Raises UserError unless a weight of 0 without gradient stays 0 under the rule with these hyperparameters."""
    program, zeros = rule.program, np.zeros(1)
    slots = dict.fromkeys(program.slots, zeros)
    for time in (1.0, 2.0, 3.0):
        shared = program.shared_values(values, np.array([time]), np.ones(1))
        weight, *new = program.evaluate(zeros, zeros, slots, shared)
        if (np.asarray(weight) != 0.0).any():
            given = ", ".join(f"{name}={value:g}" for name, value in values.items())
            raise UserError(f"{type(rule).__name__} with {given}: expected that a weight of 0 without gradient stays 0")
        slots = dict(zip(program.slots, (np.broadcast_to(each, (1,)) for each in new), strict=True))
