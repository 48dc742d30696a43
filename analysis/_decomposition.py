"""The functional ANOVA of a forest: see `analysis.fanova`."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis import stats
from analysis._axis import Axis
from analysis._debiased import Basis, CrossFit
from analysis._forest import BoxForest, Floats
from search.errors import expect

HIGHER = "higher order"


class Fanova:
    """Shares of variance and marginals of a forest. Means and standard deviations are over its trees.

    Attributes:
        dimensions: names, in order.
        n: trials that the forest learned from.
        notes: sentences: what was cut, left out or merged, and how well the forest fits.
        cutoff: score that worse trials were set to.
        r2: out-of-bag R^2 of the forest. Shares tell of the trials no more than it does: at 0 or below, nothing.
    """

    def __init__(
        self,
        axes: Sequence["Axis"],
        forest: BoxForest,
        n: int,
        cutoff: float,
        r2: float,
        cross_fit: CrossFit | None,
        notes: Sequence[str] = (),
    ):
        self.dimensions = tuple(axis.dimension.name for axis in axes)
        self.n, self.cutoff, self.r2 = n, cutoff, r2
        self.notes = list(notes)
        self._axes, self._forest = tuple(axes), forest
        self._components: dict[tuple[int, ...], Floats] = {}
        self._total = np.where(forest.variance > 0, forest.variance, np.nan)  # a constant tree has no shares
        self._cross_fit = cross_fit

    def share(self, *names: str) -> tuple[float, float]:
        """Share of the variance that is due to these dimensions together and to no fewer of them: mean and sd.

        One name gives its main effect, two their interaction, and so on; over all subsets they add up to 1.
        A dimension that no tree splits has 0. NaN if all scores are equal.

        Raises:
            UserError: not the names of different dimensions.
        """
        return _mean_sd(self._component(self._indices(names)))

    def debiased(self, *names: str, at: float | None = None) -> tuple[float, float]:
        """Share of the variance of E[score | settings] that is due to these one or two dimensions; its standard error.

        `share` is exact for trees that are coarser than that and that have learned noise; this estimates the thing
        itself, from two forests, each put right by the trials that it has not seen (`_debiased.CrossFit`). The error is
        that of the trials, with that of putting right in it: few trials, or noisy ones, make it large. Not in it is
        what forests miss that is neither smooth along one dimension or two, so that a share of steep effects may be too
        low. Below 0 counts as 0. NaN if trials were not drawn evenly from the dimensions, are fewer than 16, or if the
        forest predicts unseen ones no better than their mean.

        Args:
            names: of one or two dimensions.
            at: a share to compare with. The error grows with the share itself, so that it is estimated too small where
                the share is; this asks for the error if the share were `at`, which no smaller share has.

        Raises:
            UserError: not the names of one or two different dimensions.
        """
        chosen = self._indices(names)
        expect(len(chosen) <= 2, "dimensions", ", ".join(names), "one or two names")
        share, error = self._debiased.get(tuple(sorted(chosen)), (math.nan, math.nan))
        if at is not None and at > share:
            assert self._cross_fit
            error = math.sqrt(error**2 + (at - share) * self._cross_fit.growth / self._debiased_total)
        return share, error

    def ahead(self, name_a: str, name_b: str) -> tuple[float, float]:
        """Debiased share of one dimension alone less that of another; its standard error.

        Raises:
            UserError: not the names of two different dimensions.
        """
        a, b = ((d,) for d in self._indices((name_a, name_b)))
        if not self._debiased:
            return math.nan, math.nan
        gap, total = self._debiased[a][0] - self._debiased[b][0], self._debiased_total
        assert self._cross_fit
        return gap, self._cross_fit.error({a: 1.0, b: -1.0}, gap) / total

    def noise(self) -> tuple[float, float]:
        """Share of the variance of the scores that is not of E[score | settings], which no setting explains; its
        standard error. What the estimate misses of steep effects counts as noise. NaN as of `debiased`."""
        if self._cross_fit is None:
            return math.nan, math.nan
        share, error = self._cross_fit.noise()
        return min(max(share, 0.0), 1.0), error

    def rise(self, name: str) -> tuple[float, float]:
        """By how much the straight line through the marginal rises over the range of a setting; its standard error.

        The line of least squares on the scale that the setting was sampled on. It rises for every rising marginal. NaN
        as of `debiased`.

        Raises:
            UserError: not the name of a dimension of numbers.
        """
        (rise,), ((variance,),) = self._rises(name, 1, lambda axis, quantiles: quantiles)
        return float(rise), math.sqrt(variance)

    def rises(self, name: str) -> tuple[Floats, Floats]:
        """By how much the parabola through the marginal rises over the lower and the upper half of a setting's range.

        The parabola of least squares, in the setting's own units; halves in those too. Its second rise is the higher
        one for every convex marginal.

        Returns:
            [2] and their covariance [2, 2]; NaN as of `debiased`.

        Raises:
            UserError: not the name of a dimension of numbers.
        """

        def scaled(axis: Axis, quantiles: Floats) -> Floats:
            low, high = axis.values(np.array([0.0, 1.0]))
            return (axis.values(quantiles) - low) / (high - low)

        return self._rises(name, 2, scaled)

    def curve(self, name: str, points: int = 64) -> tuple[list[Any], Floats, Floats]:
        """The marginal of E[score | settings] over one dimension: [P] values, [P] estimates, [P, P] covariance.

        That of forests, put right by trials that they have not seen as far as it is smooth. Errors that are not are not
        in the covariance. NaN as of `debiased`.

        Raises:
            UserError: not the name of a dimension, or `points` is below 2.
        """
        (d,) = self._indices((name,))
        (values,), (quantiles,) = self._grid((d,), points)
        if self._cross_fit is None:
            return values, np.full(len(values), np.nan), np.full((len(values), len(values)), np.nan)
        return values, *self._cross_fit.curve(d, quantiles)

    def predict(self, settings: Mapping[str, Any]) -> Floats:
        """[T] predicted score of every tree at a value for each dimension.

        Raises:
            UserError: a value does not fit its dimension. KeyError: there is none for a dimension.
        """
        return self._forest.at(self._point(settings))

    def lowest(self, name: str, settings: Mapping[str, Any]) -> Any:
        """The value of one dimension at which the forest predicts the lowest score, with all others as in `settings`.

        Exact: the forest is constant between the cuts of its trees. Of a number, the middle of the lowest interval.

        Raises:
            As `predict`.
        """
        (d,) = self._indices((name,))
        edges, predicted = self._forest.along(d, self._point(settings))
        place = int(predicted.argmin())
        return self._axes[d].value((edges[place] + edges[place + 1]) / 2)

    def _point(self, settings: Mapping[str, Any]) -> Floats:
        """[D] quantiles of one value for each dimension."""
        return np.array([axis.quantile([settings[axis.dimension.name]])[0] for axis in self._axes])

    def _rises(self, name: str, degree: int, scale: Callable[[Axis, Floats], Floats]) -> tuple[Floats, Floats]:
        """Of the polynomial of least squares through a marginal over `scale`, [0, 1]: by how much it rises in each of
        `degree` equal parts, and the covariance of these estimates; NaN as of `debiased`."""
        (d,) = self._indices((name,))
        axis = self._axes[d]
        expect(not axis.dimension.values, "dimension", name, "one of numbers")
        if self._cross_fit is None:
            return np.full(degree, np.nan), np.full((degree, degree), np.nan)
        support, weights = axis.support()
        basis = Basis(scale(axis, support), weights, degree)
        estimate, covariance = self._cross_fit.project(d, lambda quantiles: basis.at(scale(axis, quantiles)))
        steps = np.diff(basis.at(np.linspace(0, 1, degree + 1)), axis=0)[:, : len(estimate)]
        return steps @ estimate, steps @ covariance @ steps.T

    def shares(self, max_order: int = 2) -> pd.DataFrame:
        """The shares of all single dimensions, pairs, ... up to `max_order` at once.

        Returns:
            ``dimensions`` ("lr", "lr x hidden_size"), ``order`` (how many they are), ``mean``, ``sd`` over the trees,
            ``debiased``, ``se`` (of `debiased`; NaN above pairs); the highest mean first. The last row,
            ``higher order``, has all the rest; its order is the lowest in it.

        Raises:
            UserError: `max_order` is below 1.
        """
        expect(max_order >= 1, "max_order", max_order, "a whole number of at least 1")
        rows = []
        rest = np.ones(len(self._total))
        for order in range(1, min(max_order, len(self._axes)) + 1):
            for chosen in itertools.combinations(range(len(self._axes)), order):
                component = self._component(chosen)
                rest = rest - component
                debiased = self._debiased.get(chosen, (math.nan, math.nan))
                rows.append((" x ".join(self.dimensions[d] for d in chosen), order, *_mean_sd(component), *debiased))
        rows.sort(key=lambda row: -row[2])
        if len(self._axes) <= max_order:
            rest = np.where(np.isnan(rest), np.nan, 0.0)
        left = max(1 - sum(row[4] for row in rows), 0.0) if rows else math.nan
        rows.append((HIGHER, max_order + 1, *_mean_sd(np.maximum(rest, 0.0)), left, math.nan))
        return pd.DataFrame(rows, columns=["dimensions", "order", "mean", "sd", "debiased", "se"])

    def marginal(self, *names: str, points: int = 64) -> pd.DataFrame:
        """Predicted score over these dimensions, averaged over all others.

        Args:
            names: of one or more dimensions.
            points: along each, spaced as it was sampled and with both bounds; integers at most once, categories all.

        Returns:
            A column a name, in its own units, then ``mean`` and ``sd``; a row a point of the grid, the last name
            running fastest.

        Raises:
            UserError: not the names of different dimensions, or `points` is below 2.
        """
        chosen = self._indices(names)
        values, at = self._grid(chosen, points)
        return _frame([self._axes[d] for d in chosen], values, self._marginals(chosen, at))

    def interaction(self, name_a: str, name_b: str, points: int = 32) -> pd.DataFrame:
        """What a pair adds to the mean and the two main effects: its marginal less theirs.

        Returns:
            As of `marginal`: columns `name_a`, `name_b`, ``mean``, ``sd``.

        Raises:
            UserError: not the names of two dimensions, or `points` is below 2.
        """
        a, b = self._indices((name_a, name_b))
        values, at = self._grid((a, b), points)
        main_a, main_b = self._marginals((a,), at[:1]), self._marginals((b,), at[1:])
        mean = self._forest.mean[:, None, None]
        pure = self._marginals((a, b), at) - main_a[:, :, None] - main_b[:, None, :] + mean
        return _frame([self._axes[a], self._axes[b]], values, pure)

    def _indices(self, names: Sequence[str]) -> tuple[int, ...]:
        expected = f"different names among {', '.join(self.dimensions)}"
        text = ", ".join(map(str, names)) or "(none)"
        known = all(name in self.dimensions for name in names)
        expect(bool(names) and known and len(set(names)) == len(names), "dimensions", text, expected)
        return tuple(self.dimensions.index(name) for name in names)

    def _component(self, chosen: tuple[int, ...]) -> Floats:
        """[T] share of each tree's variance due to exactly these dimensions, by inclusion and exclusion."""
        chosen = tuple(sorted(chosen))
        if chosen not in self._components:
            split = np.logical_and.reduce([self._forest.splits(d) for d in chosen])
            share = self._forest.marginal_variance(chosen) / self._total
            for order in range(1, len(chosen)):
                for subset in itertools.combinations(chosen, order):
                    share = share - self._component(subset)
            self._components[chosen] = np.where(split, np.maximum(share, 0.0), 0.0 * self._total)
        return self._components[chosen]

    @cached_property
    def _debiased(self) -> dict[tuple[int, ...], tuple[float, float]]:
        """Share and standard error of every single dimension and every pair."""
        estimate = self._cross_fit
        if estimate is None or not estimate.total.variance > 0:
            return {}
        shares = {c: variance / self._debiased_total for c, variance in self._debiased_variances.items()}
        return {c: (share, estimate.error({c: 1.0}, share) / self._debiased_total) for c, share in shares.items()}

    @cached_property
    def _debiased_variances(self) -> dict[tuple[int, ...], float]:
        assert self._cross_fit
        chosen = [c for order in (1, 2) for c in itertools.combinations(range(len(self._axes)), order)]
        return {c: max(self._cross_fit.effect(c).variance, 0.0) for c in chosen}

    @property
    def _debiased_total(self) -> float:
        """The parts of an ANOVA are orthogonal: none is below 0, and together they are no more than the whole."""
        assert self._cross_fit
        return max(self._cross_fit.total.variance, sum(self._debiased_variances.values()))

    def _grid(self, chosen: Sequence[int], points: int) -> tuple[list[list[Any]], list[Floats]]:
        expect(points >= 2, "points", points, "a whole number of at least 2")
        values = [self._axes[d].grid(points) for d in chosen]
        return values, [self._axes[d].quantile(v) for d, v in zip(chosen, values, strict=True)]

    def _marginals(self, chosen: Sequence[int], at: Sequence[Floats]) -> Floats:
        """[T, P_1, ..., P_k] of every tree at the quantiles `at`, [P_i] each in any order."""
        orders = [np.argsort(quantiles) for quantiles in at]
        ascending = [quantiles[order] for quantiles, order in zip(at, orders, strict=True)]
        places = np.ix_(np.arange(len(self._total)), *(np.argsort(order) for order in orders))
        return self._forest.marginal(chosen, ascending)[places]


def _mean_sd(values: Floats) -> tuple[float, float]:
    return stats.mean(values), stats.sd(values)


def _frame(axes: Sequence[Axis], values: Sequence[list[Any]], trees: Floats) -> pd.DataFrame:
    """A row a point of the grid of `values`: mean and sd of `trees` [T, ...]. Categories stay the objects they are."""
    columns = zip(*itertools.product(*values), strict=True)
    dtypes = [object if axis.dimension.values else None for axis in axes]
    names = [axis.dimension.name for axis in axes]
    frame = pd.DataFrame({n: pd.Series(c, dtype=t) for n, c, t in zip(names, columns, dtypes, strict=True)})
    return frame.assign(mean=trees.mean(axis=0).ravel(), sd=trees.std(axis=0, ddof=1).ravel())
