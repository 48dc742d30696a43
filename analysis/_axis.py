"""A dimension of a search space as trees see it, and where its values lie by quantile."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis._forest import Floats
from search.errors import expect
from search.study.space import Dimension

N_POINTS = 1024  # that stand for a dimension of more values


class Axis:
    """A dimension as trees see it: what they split, and where that is in [0, 1] by quantile."""

    def __init__(self, dimension: Dimension, column: ArrayLike, scores: Floats):
        self.dimension = dimension
        self._integer = dimension.distribution.endswith("_int")
        self._codes: dict[Any, int] = {}
        if dimension.values:
            places = {value: place for place, value in enumerate(dimension.values)}
            labels = list(np.asarray(column, dtype=object))
            for value in labels:
                self._check(value in places, value, f"one of {', '.join(map(str, places))}")
            means = pd.Series(scores).groupby([places[value] for value in labels]).mean()
            overall = float(scores.mean())  # for a category without a trial
            ranked = sorted(places, key=lambda value: means.get(places[value], overall))
            self._codes = {value: code for code, value in enumerate(ranked)}
        else:
            bounds = f"[{dimension.low}, {dimension.high}]"
            self._check(dimension.low < dimension.high, bounds, "bounds that differ")

    def encode(self, column: ArrayLike) -> Floats:
        """[n] of what the trees split: quantiles, but integers as such and categories as codes."""
        if self._codes:
            return np.array([self._codes[value] for value in np.asarray(column, dtype=object)], dtype=float)
        values = np.asarray(column, dtype=float)
        if not self._integer:
            return self._number_quantile(values)
        inside = (values >= self.dimension.low) & (values <= self.dimension.high) & (values == np.floor(values))
        for value in values[~inside]:
            self._check(False, value, f"an integer within [{self.dimension.low}, {self.dimension.high}]")
        return values

    def cut(self, threshold: Floats) -> Floats:
        """Quantiles at which trees split, from their thresholds: codes and integers of at most that go left."""
        if self._codes:
            return (np.floor(threshold) + 1) / len(self._codes)
        return self._scaled(np.floor(threshold) + 0.5) if self._integer else threshold

    def code(self, quantiles: Floats) -> Floats:
        """[n] of what the trees split, from quantiles in [0, 1)."""
        if self._codes:
            return np.floor(quantiles * len(self._codes))
        if not self._integer:
            return quantiles
        low, high = self.dimension.low - 0.5, self.dimension.high + 0.5
        log = "log" in self.dimension.distribution
        numbers = low * (high / low) ** quantiles if log else low + (high - low) * quantiles
        return np.clip(np.rint(numbers), self.dimension.low, self.dimension.high)

    def grid(self, points: int) -> list[Any]:
        """Values to draw the dimension at, in ascending order; categories in their own."""
        if self._codes:
            return list(self.dimension.values)
        if self._integer and self.dimension.high - self.dimension.low < points:
            return list(range(int(self.dimension.low), int(self.dimension.high) + 1))
        quantiles = np.linspace(0, 1, points).tolist()
        return sorted({self.dimension.value(self.dimension.at(u)) for u in quantiles})

    def quantile(self, values: ArrayLike) -> Floats:
        """[n] of where values lie in [0, 1]; a category or an integer in the middle of what it owns."""
        if self._codes:
            return (self.encode(values) + 0.5) / len(self._codes)
        numbers = np.asarray(values, dtype=float)
        if self._integer:
            return (self._scaled(numbers - 0.5) + self._scaled(numbers + 0.5)) / 2
        # The forest compares in single precision; a point on a split must fall on the same side here.
        return self._number_quantile(numbers).astype(np.float32).astype(float)

    def support(self) -> tuple[Floats, Floats]:
        """Quantiles that stand for the dimension, and what each weighs: every category and integer, or a fine grid."""
        if self._codes:
            return self.quantile(self.dimension.values), np.full(len(self._codes), 1 / len(self._codes))
        if self._integer and self.dimension.high - self.dimension.low < N_POINTS:
            values = np.arange(self.dimension.low, self.dimension.high + 1)
            return self.quantile(list(values)), self._scaled(values + 0.5) - self._scaled(values - 0.5)
        return (np.arange(N_POINTS) + 0.5) / N_POINTS, np.full(N_POINTS, 1 / N_POINTS)

    def value(self, quantile: float) -> Any:
        """The setting at a quantile, in its own units."""
        if self._codes:
            return list(self._codes)[min(int(quantile * len(self._codes)), len(self._codes) - 1)]
        rising = 1 - quantile if self.dimension.distribution.startswith("one_minus") else quantile
        return self.dimension.value(self.dimension.at(rising))

    def values(self, quantiles: Floats) -> Floats:
        """[n] settings at quantiles; of numbers only."""
        return np.array([self.value(u) for u in quantiles], dtype=float)

    def _number_quantile(self, values: Floats) -> Floats:
        inverted = self.dimension.distribution.startswith("one_minus")
        quantiles = 1 - self._scaled(1 - values) if inverted else self._scaled(values)
        for value in values[~(np.abs(quantiles - 0.5) <= 0.5 + 1e-6)]:
            self._check(False, value, f"a number within [{self.dimension.low}, {self.dimension.high}]")
        return np.clip(quantiles, 0.0, 1.0)

    def _scaled(self, numbers: Floats) -> Floats:
        half = 0.5 if self._integer else 0.0
        low, high = self.dimension.low - half, self.dimension.high + half
        if "log" in self.dimension.distribution:
            with np.errstate(divide="ignore", invalid="ignore"):  # values not above 0 are out of bounds
                return np.log(numbers / low) / math.log(high / low)
        return (numbers - low) / (high - low)

    def _check(self, condition: bool, value: object, expected: str) -> None:
        expect(condition, self.dimension.name, value, expected)
