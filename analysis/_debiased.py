"""Shares of variance without what a forest blurs: one-step estimates from the trials that its trees have not seen."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis._forest import Floats, Steps

N_CELLS = 2**14  # of the midpoint rule


class OneStep:
    """One-step estimates of the variances of f(x) = E[y | x] and of its marginals, x uniform on the unit cube.

    Let m be a marginal of the forest's mean, centred, and r the residuals of the trials that it learned from. The
    integral of m^2 is off by twice the integral of m times the forest's error, which the mean of 2 m(x) r estimates;
    what remains is of second order (Da Veiga and Gamboa 2013, "Efficient estimation of sensitivity indices"). The m and
    r of a trial are those of trees that did not draw it (cross-fitting, Chernozhukov et al. 2018), so that no noise is
    in their product on average.

    Attributes:
        variance: of f.
        own: [n] what each trial adds to the estimate of `variance`, twice m(x) r.
    """

    def __init__(
        self,
        mean: float,
        points: Floats,
        outside: NDArray[np.bool_],
        predictions: Floats,
        scores: Floats,
        forest_variance: float,
    ):
        """
        Args:
            mean: of the forest over the cube.
            points: [n, D] settings of the trials, as quantiles.
            outside: [T, n] whether a tree has not seen a trial.
            predictions: [T, n] of every tree.
            scores: [n]
            forest_variance: of the mean of the trees over the cube.
        """
        seen = outside.any(axis=0)  # by the estimate: trials that every tree drew tell nothing
        self._points, self._outside = points[seen], outside[:, seen]
        self._n_trees = self._outside.sum(axis=0)  # [n] that have not seen a trial
        self._mean = mean
        predicted = (predictions[:, seen] * self._outside).sum(axis=0) / self._n_trees
        residuals = scores[seen] - predicted
        self._residuals = residuals - residuals.mean()
        self.own = self._own(predicted)
        self.variance = forest_variance + float(self.own.mean())

    def effect(self, dimensions: Sequence[int], marginals: Iterable[Steps]) -> tuple[float, Floats]:
        """Variance of the marginal over `dimensions`, and [n] what each trial adds to it.

        Args:
            dimensions: one or two.
            marginals: over them, of each tree.
        """
        per_axis = round(N_CELLS ** (1 / len(dimensions)))
        middles = (np.arange(per_axis) + 0.5) / per_axis
        marginal = np.zeros([per_axis] * len(dimensions))
        at_trials = np.zeros(len(self._points))
        for outside, steps in zip(self._outside, marginals, strict=True):
            marginal += steps.grid([middles] * len(dimensions))
            at_trials[outside] += steps.at(self._points[np.ix_(outside, dimensions)])
        own = self._own(at_trials / self._n_trees)
        return float(np.mean((marginal / len(self._outside) - self._mean) ** 2)) + float(own.mean()), own

    def error(self, own: Floats, share: float, total: float) -> float:
        """Standard error of a share of `total`, from what each trial adds to the variance that is shared out."""
        n = len(own)
        return float(np.std(own - share * self.own, ddof=1)) / math.sqrt(n) / total if n > 1 else math.nan

    def _own(self, predicted: Floats) -> Floats:
        """[n] what each trial adds to a variance, from a marginal at the trials, or the prediction."""
        return 2 * (predicted - predicted.mean()) * self._residuals
