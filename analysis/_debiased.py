"""Shares of variance without what a forest blurs: from two forests, each put right by trials that it has not seen."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import legvander

from analysis._forest import BoxForest, Floats, Ints

N_CELLS = 2**14  # of the midpoint rule
MOST_PRODUCTS = 512  # functions of two dimensions
Chosen = tuple[int, ...]


@dataclass(frozen=True)
class Half:
    """A forest, and the trials that it has not seen.

    Attributes:
        forest: as boxes.
        variance: of their mean over the cube.
        points: [h, D] settings of the trials, as quantiles.
        predicted: [h] by the forest.
        scores: [h]
        groups: [h] numbers of the groups that trials are in. Those of one group, which share their settings or a seed,
            are not independent; other groups are, and each is in one half.
    """

    forest: BoxForest
    variance: float
    points: Floats
    predicted: Floats
    scores: Floats
    groups: Ints


class Basis:
    """Polynomials of the quantiles of one dimension that are orthonormal as it was sampled, and to 1.

    Of a category, the polynomials of its codes.
    """

    def __init__(self, support: Floats, weights: Floats, degree: int):
        """
        Args:
            support, weights: [S] quantiles that stand for the dimension, and what each weighs; together 1.
            degree: the highest; that of the last of fewer values.
        """
        self.degree = min(degree, len(support) - 1)
        powers = legvander(2 * support - 1, self.degree)
        self._inverse = np.linalg.inv(np.linalg.qr(np.sqrt(weights)[:, None] * powers).R)

    def at(self, quantiles: Floats) -> Floats:
        """[n, degree]"""
        values = legvander(2 * quantiles - 1, self.degree) @ self._inverse
        return np.asarray(values[:, 1:], dtype=np.float64)


@dataclass(frozen=True)
class Effect:
    """An estimate of a variance.

    Attributes:
        variance: not bounded by 0.
        own: [n] what each trial adds to it.
        functions: [K] which functions of the basis are part of it.
    """

    variance: float
    own: Floats
    functions: Floats


class CrossFit:
    """Estimates of the variances of f(x) = E[y | x] and of its parts, x uniform on the unit cube.

    Let m be a part of a forest, centred, and r the residuals of the half of the trials that the forest has not seen.
    The variance of that part of f is exactly that of m, plus twice the integral of m times the forest's error, which
    the mean of 2 m(x) r estimates, plus the variance of the error's part. The last is the sum of the squares of its
    coefficients in an orthonormal basis, each estimated without bias from pairs of trials; this is done for the
    polynomials of low degree, and the rest of the error is left out (Da Veiga and Gamboa 2013, "Efficient estimation
    of sensitivity indices"; Laurent 1996). The two halves change roles and their estimates are averaged (cross-fitting,
    Chernozhukov et al. 2018), so that no noise is in a product on average.

    Attributes:
        n, n_groups: trials of both halves, and groups of them.
        growth: of the squared error of an estimated variance, 4 E[m^2 r^2] / n, with that variance.
        total: of f itself; of its forests' errors, the parts of one and two dimensions.
    """

    def __init__(self, halves: Sequence[Half], supports: Sequence[tuple[Floats, Floats]]):
        """
        Args:
            halves: two.
            supports: of each of the D dimensions: quantiles that stand for it, and what they weigh.
        """
        self._halves, self._supports = halves, supports
        self._points = np.concatenate([half.points for half in halves])
        self.n = len(self._points)
        self._groups = np.unique(np.concatenate([half.groups for half in halves]), return_inverse=True)[1]
        self.n_groups = int(self._groups.max()) + 1
        ends = np.cumsum([0, *(len(half.scores) for half in halves)])
        self._parts = [slice(*pair) for pair in itertools.pairwise(ends)]
        residuals = [half.scores - half.predicted for half in halves]
        self._residuals = np.concatenate([own - own.mean() for own in residuals])
        self._bases, self._functions, self._of = self._lay_out()
        products = self._sums(self._functions * self._residuals[:, None])
        self._spread = products.T @ products / self.n  # [K, K] second moments of a function times r
        self._marginals: dict[Chosen, tuple[Floats, Floats]] = {}
        self._effects: dict[Chosen, Effect] = {}
        predicted = np.concatenate([half.predicted - half.predicted.mean() for half in halves])
        variances = np.array([half.variance for half in halves])
        self.growth = 4 * float(np.mean(self._residuals**2)) / self.n
        self.total = self._corrected(variances, predicted, np.ones(len(self._of)))

    def effect(self, chosen: Chosen) -> Effect:
        """Of exactly these dimensions, one or two in ascending order."""
        if chosen not in self._effects:
            variances, at_trials = self._marginal(chosen)
            for d in chosen if len(chosen) > 1 else ():
                variances = variances - self._marginal((d,))[0]
                at_trials = at_trials - self._marginal((d,))[1]
            functions = np.array([float(of == chosen) for of in self._of])
            self._effects[chosen] = self._corrected(variances, at_trials, functions)
        return self._effects[chosen]

    def error(self, weights: Mapping[Chosen, float], of_total: float) -> float:
        """Standard error of a weighted sum of effects less `of_total` times the total."""
        own, functions = -of_total * self.total.own, -of_total * self.total.functions
        for chosen, weight in weights.items():
            own = own + weight * self.effect(chosen).own
            functions = functions + weight * self.effect(chosen).functions
        return self._error(own, functions)

    def noise(self) -> tuple[float, float]:
        """Share of the variance of a score that no setting explains, not bounded; its standard error.

        The noise is what is left of the squared residuals without that of the forests' errors.
        """
        everything = np.ones(len(self._of))
        missed = self._corrected(np.zeros(len(self._halves)), np.zeros(self.n), everything)
        noise = float(np.mean(self._residuals**2)) - missed.variance
        whole = self.total.variance + noise
        share = noise / whole
        own = (1 - share) * (self._residuals**2 - missed.own) - share * self.total.own
        return share, self._error(own, -everything) / whole

    def project(self, d: int, functions: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
        """Means over the cube of f times functions of one dimension, and the covariance of these estimates.

        Args:
            d: the dimension.
            functions: of quantiles [P], give [P, J], each of which has mean 0 over the dimension.

        Returns:
            [J] and [J, J]
        """
        support, weights = self._supports[d]
        weighted = functions(support) * weights[:, None]
        of_forests = [self._forest_marginal(half, d, support) @ weighted for half in self._halves]
        products = functions(self._points[:, d]) * self._residuals[:, None]
        return np.mean(of_forests, axis=0) + products.mean(axis=0), self._covariance(products)

    def curve(self, d: int, quantiles: Floats) -> tuple[Floats, Floats]:
        """[P] marginal of f over one dimension at quantiles, and its [P, P] covariance.

        It is that of the forests, with what their errors have of the basis taken out. The covariance is of the latter;
        errors that the basis does not have are not in it.
        """
        of_forests = np.mean([self._forest_marginal(half, d, quantiles) for half in self._halves], axis=0)
        basis = self._bases[d]
        products = basis.at(self._points[:, d]) * self._residuals[:, None]
        at = basis.at(quantiles)
        return of_forests + at @ products.mean(axis=0), at @ self._covariance(products) @ at.T

    def _lay_out(self) -> tuple[list[Basis], Floats, list[Chosen]]:
        """The bases of the dimensions; [n, K] their functions and the products of two, at the trials; of which
        dimensions each is."""
        pairs = list(itertools.combinations(range(len(self._supports)), 2))
        degree = int(np.clip(round((self.n / 2) ** 0.3), 2, 12))  # as an error of some smoothness allows
        together = 2
        while together < degree and len(pairs) * together * (together + 1) / 2 <= MOST_PRODUCTS:
            together += 1
        bases = [Basis(*support, degree) for support in self._supports]
        values = [basis.at(at) for basis, at in zip(bases, self._points.T, strict=True)]
        columns: list[Floats] = []
        of: list[Chosen] = []
        for d, own in enumerate(values):
            columns.extend(own.T)
            of.extend([(d,)] * own.shape[1])
        for a, b in pairs:
            for j, k in itertools.product(range(values[a].shape[1]), range(values[b].shape[1])):
                if j + k + 2 <= together:
                    columns.append(values[a][:, j] * values[b][:, k])
                    of.append((a, b))
        return bases, np.column_stack(columns), of

    def _marginal(self, chosen: Chosen) -> tuple[Floats, Floats]:
        """[2] variances of the marginals of the two forests, and [n] these, centred, at the trials."""
        if chosen not in self._marginals:
            per_axis = round(N_CELLS ** (1 / len(chosen)))
            middles = [(np.arange(per_axis) + 0.5) / per_axis] * len(chosen)
            variances, at_trials = [], []
            for half in self._halves:
                mean = half.forest.mean.mean()
                variances.append(float(np.mean((half.forest.average(chosen, middles) - mean) ** 2)))
                at_trials.append(half.forest.average_at(chosen, half.points[:, chosen]) - mean)
            self._marginals[chosen] = np.array(variances), np.concatenate(at_trials)
        return self._marginals[chosen]

    def _corrected(self, variances: Floats, at_trials: Floats, functions: Floats) -> Effect:
        """Of a part of f, from that part of the forests: its variances [2], and its values at the trials [n]."""
        estimates, own = [], np.empty(self.n)
        for variance, part in zip(variances, self._parts, strict=True):
            r, basis = self._residuals[part], self._functions[part]
            products = basis * r[:, None]
            coefficients = products.mean(axis=0)
            alike = np.sum(self._sums(products, part) ** 2, axis=0)  # pairs within a group, and of a trial with itself
            sizes = self._sums(np.ones(len(r)), part)
            squares = (products.sum(axis=0) ** 2 - alike) / (len(r) ** 2 - sizes @ sizes)
            estimates.append(variance + np.mean(2 * at_trials[part] * r) + functions @ squares)
            own[part] = 2 * (at_trials[part] + basis @ (functions * coefficients)) * r
        return Effect(float(np.mean(estimates)), own, functions)

    def _error(self, own: Floats, functions: Floats) -> float:
        """Standard error of an estimate: of what each trial adds to it, and of the squares of noisy coefficients.

        The variance of the latter is 2 tr(D S D S) / h^2 in each half of h trials, for S the second moments of the
        functions times r; and as much twice over is in the scatter of `own`, which has the same coefficients.
        """
        squares = 4 * float(functions @ self._spread**2 @ functions) / self.n**2
        return math.sqrt(max(self._covariance(own[:, None])[0, 0] - squares, squares))

    def _covariance(self, values: Floats) -> Floats:
        """[J, J] of the means of [n, J] over the trials."""
        sums = self._sums(values - values.mean(axis=0))
        return sums.T @ sums * self.n_groups / (self.n_groups - 1) / self.n**2

    def _sums(self, values: Floats, part: slice = slice(None)) -> Floats:
        """[groups, ...] of values of the trials of a part, [n, ...]."""
        groups = self._groups[part]
        sums = np.zeros((self.n_groups, *values.shape[1:]))
        np.add.at(sums, groups, values)
        return sums

    def _forest_marginal(self, half: Half, d: int, quantiles: Floats) -> Floats:
        return half.forest.average_at([d], quantiles[:, None])
