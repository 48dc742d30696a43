"""PED-ANOVA: which settings decide whether a trial is among the best.

The method is that of Watanabe, Bansal and Hutter (2023), "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance
in Arbitrary Subspaces" (IJCAI). Shares of variance tell what moves the score anywhere in the space, and most of a space
is bad; this tells what the trials of the best fraction have in common. For each setting it is the Pearson divergence of
the density p of the best trials' values from that of all trials, which here is the one that they were drawn from, even
over its own quantiles u (their local importance, with the whole space as the larger of the two level sets)::

    integral of (p(u) - 1)^2 over [0, 1]

It needs no forest. Its estimate is never 0, as the best are few: so there is also what it is for as many trials drawn
at random from all.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from analysis._axis import Axis
from analysis._forest import Floats
from search.errors import expect
from search.study.space import Dimension

MIN_BEST = 5
ALPHA = 0.05


def ped_anova(
    X: Sequence[ArrayLike], best: ArrayLike, dimensions: Sequence[Dimension], n_random: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """The divergence of the best trials' settings from all that were drawn, of each setting alone.

    Args:
        X: settings in their own units: the D columns, [n] each, drawn evenly from the dimensions.
        best: [n] whether each trial is among the best.
        dimensions: how each of the D was sampled.
        n_random: as many random choices of trials.
        seed: of these.

    Returns:
        One row a dimension, the largest divergence first: dimension, divergence, share (of the sum of all), chance (the
        95th percentile of the divergence of random trials), p (how often one at random is as large), matters (p below
        5 % after Bonferroni over the dimensions).

    Raises:
        UserError: fewer than 5 trials are among the best, or values do not fit their dimension.
    """
    chosen = np.asarray(best, dtype=bool)
    n_best = int(chosen.sum())
    expect(n_best >= MIN_BEST, "best trials", n_best, f"at least {MIN_BEST} for their density")
    rng = np.random.default_rng(seed)
    picks = np.stack([chosen, *(rng.permutation(chosen) for _ in range(n_random))])
    rows = []
    for dimension, column in zip(dimensions, X, strict=True):
        axis = Axis(dimension, column, np.zeros(len(chosen)))
        found, *random = _divergences(axis, axis.quantile(np.asarray(column, dtype=object)), picks)
        p = (1 + np.sum(np.array(random) >= found)) / (1 + n_random)
        rows.append((dimension.name, found, float(np.quantile(random, 1 - ALPHA)), p, p * len(dimensions) < ALPHA))
    table = pd.DataFrame(rows, columns=["dimension", "divergence", "chance", "p", "matters"])
    table.insert(2, "share", table["divergence"] / table["divergence"].sum())
    return table.sort_values("divergence", ascending=False, kind="stable", ignore_index=True)


def _divergences(axis: Axis, quantiles: Floats, picks: NDArray[np.bool_]) -> Floats:
    """[R] Pearson divergences of the densities of R choices of trials, [R, n], from the even one.

    Categories by their frequencies. Numbers by a Parzen estimator: normal kernels, cut off at both ends of the range
    and scaled up to what is left, of Scott's bandwidth, n_best^(-1/5) times the standard deviation (of even density).
    """
    support, weights = axis.support()
    if axis.dimension.values:
        kernel = (quantiles[:, None] == support) / weights  # [n, S]
    else:
        width = np.sqrt(1 / 12) * float(picks[0].sum()) ** -0.2
        ends = np.concatenate([[0.0], np.cumsum(weights)])
        mass = np.diff(ndtr((ends - quantiles[:, None]) / width), axis=1)
        kernel = mass / mass.sum(axis=1, keepdims=True) / weights
    density = picks @ kernel / picks.sum(axis=1, keepdims=True)
    return np.asarray((density - 1) ** 2 @ weights, dtype=np.float64)
