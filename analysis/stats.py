"""Statistics of one or two samples: pure functions of arrays. A lower score is better."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ttest_ind_from_stats

Floats = NDArray[np.float64]


def best_fraction(scores: ArrayLike, fraction: float = 0.1) -> NDArray[np.intp]:
    """Indices of the best `fraction` of scores, best first; equal scores keep their order.

    The number picked is `fraction` of n to the nearest integer (halves up), at least 1. A trial that diverged
    is to be given as infinite: it counts in n, since the search drew it, but is never picked. NaN does not count.

    Args:
        scores: [n]
        fraction: in (0, 1].

    Returns:
        [k], empty if no score is finite.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction}: expected a number in (0, 1]")
    array = np.asarray(scores, dtype=float)
    k = max(1, int(np.floor(fraction * np.count_nonzero(~np.isnan(array)) + 0.5)))
    order = np.argsort(array, kind="stable")
    return order[np.isfinite(array[order])][:k]


def welch(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p of Welch's t-test, the variances not assumed equal.

    NaN values are left out. NaN, for not tested, if a sample then has n < 2 or neither has any spread.
    """
    x, y = _finite(a), _finite(b)
    if min(len(x), len(y)) < 2 or (np.ptp(x) == 0 and np.ptp(y) == 0):
        return float("nan")
    samples = (x.mean(), x.std(ddof=1), len(x), y.mean(), y.std(ddof=1), len(y))
    return float(ttest_ind_from_stats(*samples, equal_var=False).pvalue)


def bonferroni(p: ArrayLike) -> Floats:
    """p [m] times the number of tests made (those not NaN), at most 1; NaN stays NaN."""
    array = np.asarray(p, dtype=float)
    return np.minimum(array * np.count_nonzero(~np.isnan(array)), 1.0)


def box(values: ArrayLike) -> dict[str, float]:
    """n, low, q1, median, q3, high and mean of the finite values: whole range and quartiles; NaN if there are none."""
    x = _finite(values)
    names = ("low", "q1", "median", "q3", "high")
    numbers = np.percentile(x, [0, 25, 50, 75, 100]) if len(x) else np.full(5, np.nan)
    return {"n": len(x), **dict(zip(names, numbers.tolist(), strict=True)), "mean": mean(x)}


def mean(values: ArrayLike) -> float:
    """Mean of the finite values; NaN if there are none."""
    x = _finite(values)
    return float(x.mean()) if len(x) else float("nan")


def sd(values: ArrayLike) -> float:
    """Sample standard deviation (n - 1) of the finite values; NaN if n < 2."""
    x = _finite(values)
    return float(x.std(ddof=1)) if len(x) > 1 else float("nan")


def _finite(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=float)
    return array[np.isfinite(array)]
