"""Search spaces: the distributions of a trial's settings, and how samplers draw from them."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from search.base.keys import TRUTH, is_number
from search.base.randomness import derive_seed
from search.errors import expect
from search.own import MOST

if TYPE_CHECKING:
    import optuna  # else only where it is needed: who reads a space does without

REQUIRED = ("hidden_size", "input_noise")  # of every trial, besides what its update rule and its cell need
LAYERS = ("n_layers", "skip")  # of a trial that does not have what `search.network.Network` has by default
MOST_LAYERS = 100
BATCH = 16  # trials of a variant that a sampler which learns draws at a time: from all that came before them
NUMERIC = ("uniform", "log_uniform", "one_minus_log_uniform", "uniform_int", "log_uniform_int")


@dataclass(frozen=True)
class Dimension:
    """The distribution of one setting.

    Attributes:
        name: of the setting.
        distribution: one of `NUMERIC`, or ``choice``.
        low, high: inclusive bounds (of 1 - value for ``one_minus_log_uniform``); equal bounds fix the value.
        values: of a ``choice``.
        points: grid points that ``sampler=grid`` lays over a numeric dimension, evenly on its scale.
    """

    name: str
    distribution: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()
    points: int = 0

    @property
    def stored_name(self) -> str:
        """Name in the storage, which holds what was sampled: 1 - momentum, where that is log-uniform."""
        return f"1 - {self.name}" if self.distribution == "one_minus_log_uniform" else self.name

    @property
    def stored(self) -> "optuna.distributions.BaseDistribution":
        """The distribution as Optuna knows it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        log = "log" in self.distribution
        if self.distribution == "choice":
            return CategoricalDistribution(self.values)
        if self.distribution.endswith("_int"):
            return IntDistribution(int(self.low), int(self.high), log=log)
        return FloatDistribution(self.low, self.high, log=log)

    def at(self, u: float) -> Any:
        """The stored value at quantile u in [0, 1): the inverse of the cumulative distribution."""
        if self.distribution == "choice":
            return self.values[int(u * len(self.values))]
        # Each integer owns the unit interval around it, on the scale of the distribution.
        half = 0.5 if self.distribution.endswith("_int") else 0.0
        low, high = self.low - half, self.high + half
        value = low * (high / low) ** u if "log" in self.distribution else low + (high - low) * u
        bounded = min(max(value, self.low), self.high)
        return round(bounded) if half else bounded

    def value(self, stored: Any) -> Any:
        """The setting, from what the storage holds."""
        return 1.0 - stored if self.distribution == "one_minus_log_uniform" else stored

    def unvalue(self, setting: Any) -> Any:
        """What the storage holds of a setting: the inverse of `value`, within the bounds in spite of rounding."""
        if self.distribution != "one_minus_log_uniform":
            return setting
        return min(max(1.0 - setting, self.low), self.high)

    def suggest(self, trial: "optuna.trial.Trial") -> Any:
        """The stored value of one of Optuna's trials, as its study's sampler draws it."""
        log = "log" in self.distribution
        if self.distribution == "choice":
            return trial.suggest_categorical(self.stored_name, self.values)
        if self.distribution.endswith("_int"):
            return trial.suggest_int(self.stored_name, int(self.low), int(self.high), log=log)
        return trial.suggest_float(self.stored_name, self.low, self.high, log=log)

    @property
    def n_points(self) -> int:
        """Grid points along this dimension."""
        return 1 if self.low == self.high and not self.values else len(self.values) or self.points

    def grid(self, index: int) -> Any:
        """The stored value at a grid point, the first and the last being the bounds."""
        if self.distribution == "choice":
            return self.values[index]
        u = index / (self.n_points - 1) if self.n_points > 1 else 0.0
        value = (
            self.low * (self.high / self.low) ** u
            if "log" in self.distribution
            else self.low + (self.high - self.low) * u
        )
        return round(value) if self.distribution.endswith("_int") else min(max(value, self.low), self.high)


Space = tuple[Dimension, ...]


# ``check(key, name, value)`` raises UserError unless the value is possible for a setting; `key` is what the user typed.
Check = Callable[[str, str, Any], None]


def parse(
    definition: Mapping[str, Any],
    legal: Sequence[str],
    required: Sequence[str] = REQUIRED,
    check: Check = lambda key, name, value: None,
) -> Space:
    """Reads a space from its config group.

    Args:
        definition: ``{setting: {distribution: ..., low: ..., high: ...}}``.
        legal: names of the settings that may stand in it.
        required: names of those that must.
        check: of values of settings of update rules; those of `REQUIRED` and `LAYERS` are checked anyway.

    Raises:
        UserError: names the key and what was expected.
    """
    for name in required:
        expect(
            name in definition,
            f"space.{name}",
            "(absent)",
            "a distribution, e.g. {distribution: uniform, low: 0, high: 1}",
        )
    for name in definition:
        expect(name in legal, "space", name, f"settings among {', '.join(legal)}")

    def checked(key: str, name: str, value: Any) -> None:
        check_setting(key, name, value)
        check(key, name, value)

    return tuple(_dimension(name, dict(spec or {}), checked) for name, spec in definition.items())


def check_setting(key: str, name: str, value: Any) -> None:
    """Raises UserError unless `value` is possible for a setting of `REQUIRED` or `LAYERS`, if it is one of them; `key`
    is what the user typed."""
    if name == "hidden_size":
        whole = is_number(value) and value == int(value) and value >= 1
        expect(whole, key, value, "a whole number of at least 1")
    elif name == "input_noise":
        expect(is_number(value) and 0 <= value <= MOST, key, value, f"a number from 0 to {MOST:.3g}")
    elif name == "n_layers":
        whole = is_number(value) and value == int(value) and 1 <= value <= MOST_LAYERS
        expect(whole, key, value, f"a whole number from 1 to {MOST_LAYERS}")
    elif name == "skip":
        TRUTH.check(key, value)


def _dimension(name: str, spec: dict[str, Any], check: Check) -> Dimension:
    key = f"space.{name}"
    distribution = spec.pop("distribution", None)
    expect(
        distribution in (*NUMERIC, "choice"),
        f"{key}.distribution",
        distribution,
        f"one of {', '.join((*NUMERIC, 'choice'))}",
    )
    fields = ("values",) if distribution == "choice" else ("low", "high", "points")
    for field in spec:
        expect(field in fields, key, field, f"keys among distribution, {', '.join(fields)}")
    if distribution == "choice":
        values = spec.get("values") or []
        single = isinstance(values, list) and all(isinstance(value, str | int | float) for value in values)
        once = single and 0 < len(values) == len(set(values))
        expect(once, f"{key}.values", values, "a list of values, each once")
        for value in values:
            check(f"{key}.values", name, value)
        return Dimension(name, distribution, values=tuple(values))
    for field in ("low", "high"):
        expect(is_number(spec.get(field)), f"{key}.{field}", spec.get(field), "a number")
    dimension = Dimension(name, distribution, spec["low"], spec["high"], points=spec.get("points", 0))
    low, high = dimension.low, dimension.high
    expect(low <= high, f"{key}.low", low, f"at most {key}.high={high}")
    if "log" in distribution:
        expect(low > 0, f"{key}.low", low, "a number above 0, for it is on a logarithmic scale")
    if distribution.endswith("_int") or name in ("hidden_size", "n_layers"):
        expect(distribution.endswith("_int"), f"{key}.distribution", distribution, "uniform_int or log_uniform_int")
        for field, value in (("low", low), ("high", high)):
            expect(value == int(value), f"{key}.{field}", value, "a whole number")
    if "points" in spec:
        whole = isinstance(dimension.points, int) and not isinstance(dimension.points, bool) and dimension.points >= 1
        expect(whole, f"{key}.points", dimension.points, "a whole number of at least 1")
    complement = "1 - " if distribution == "one_minus_log_uniform" else ""
    for field, value in (("low", low), ("high", high)):
        check(f"{complement}{key}.{field}", name, dimension.value(value))
    return dimension


def n_grid_points(space: Space) -> int:
    """Size of the grid over a space.

    Raises:
        UserError: a dimension does not say how many points it has.
    """
    for dimension in space:
        n, key = dimension.n_points, f"space.{dimension.name}.points"
        expect(n > 0, key, None, "a number of grid points, for sampler=grid")
        distinct = len({dimension.grid(index) for index in range(n)})
        expect(distinct == n, key, n, f"at most {distinct}, as there are no more different values on its scale")
    return math.prod(dimension.n_points for dimension in space)


class NumberedSampler:
    """Draws each trial as a function of its number, so that a plan is the same however it is run.

    ``random``: independent draws. ``qmc``: a scrambled Sobol sequence, by `scipy.stats.qmc`. ``grid``: the points of a
    grid, in order.
    """

    def __init__(self, kind: str, space: Space, seed: int):
        self._kind, self._space, self._seed = kind, {d.stored_name: d for d in space}, seed
        self._points: np.ndarray | None = None

    def draw(self, number: int, stored_name: str) -> Any:
        """The stored value of one dimension for trial `number`."""
        dimension, axis = self._space[stored_name], list(self._space).index(stored_name)
        match self._kind:
            case "random":
                seed = derive_seed(self._seed, number, dimension.name)
                return dimension.at(np.random.default_rng(seed).random())
            case "qmc":
                return dimension.at(self._sobol(number)[axis])
            case _:
                shape = [d.n_points for d in self._space.values()]
                return dimension.grid(int(np.unravel_index(number, shape)[axis]))

    def _sobol(self, number: int) -> np.ndarray:
        from scipy.stats import qmc

        if self._points is None or number >= len(self._points):
            power = max(8, number.bit_length())
            self._points = qmc.Sobol(len(self._space), rng=self._seed).random_base2(power)
        return self._points[number]


@dataclass(frozen=True)
class Past:
    """A trial that a sampler learns from: its settings by name, and its score, None if it diverged."""

    settings: Mapping[str, Any]
    score: float | None


def learned(space: Space, seed: int, past: Sequence[Past]) -> list[dict[str, Any]]:
    """The stored values of the next `BATCH` trials by name, drawn by a tree-structured Parzen estimator.

    They depend on the arguments alone, so that a study is the same however it is run, and however often interrupted.

    Args:
        space: of the settings.
        seed: of the study and variant.
        past: all trials of the batches before, in the order of their numbers, without those that failed.
    """
    import optuna

    # Of a batch none has ended before the last is drawn; constant_liar keeps them apart.
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        own = derive_seed(seed, len(past)) % 2**32
        tpe = optuna.samplers.TPESampler(seed=own, multivariate=True, constant_liar=True)
        study = optuna.create_study(direction="minimize", sampler=tpe)
    for trial in past:
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.PRUNED if trial.score is None else optuna.trial.TrialState.COMPLETE,
                value=trial.score,
                params={d.stored_name: d.unvalue(trial.settings[d.name]) for d in space},
                distributions={d.stored_name: d.stored for d in space},
            )
        )
    batch = [study.ask() for _ in range(BATCH)]
    return [{d.stored_name: d.suggest(trial) for d in space} for trial in batch]
