"""Statistics of one or more samples: pure functions of arrays. A lower score is better.

Values that are NaN or infinite are left out, unless a function says otherwise. What a sample is too small for is NaN,
never an error: the docstrings say from which n on there is a number.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy import stats as scipy_stats

Floats = NDArray[np.float64]
LEVEL = 0.95
ALPHA = 0.05
RUNAWAY = 10.0
NAN = float("nan")


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    estimate: float
    low: float
    high: float


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
    order = np.argsort(array, kind="stable")
    return order[np.isfinite(array[order])][: _n_best(int(np.count_nonzero(~np.isnan(array))), fraction)]


def welch(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p of Welch's t-test, the variances not assumed equal, of independent draws.

    NaN, for not tested, if a sample has n < 2 or neither has any spread.
    """
    x, y = _finite(a), _finite(b)
    if min(len(x), len(y)) < 2 or not (np.ptp(x) or np.ptp(y)):
        return NAN
    moments = [(sample.mean(), sample.std(ddof=1), len(sample)) for sample in (x, y)]
    return float(scipy_stats.ttest_ind_from_stats(*moments[0], *moments[1], equal_var=False).pvalue)


def proportion(count: int, n: int) -> Interval:
    """`count` of `n`, with Wilson's interval (1927); NaN if n = 0."""
    if not n:
        return Interval(NAN, NAN, NAN)
    ends = scipy_stats.binomtest(count, n).proportion_ci(LEVEL, "wilson")
    return Interval(count / n, float(ends.low), float(ends.high))


def same_rate(a: ArrayLike, b: ArrayLike, paired: bool) -> float:
    """Two-sided exact p of an event being equally probable in a [n_a] and b [n_b], each true where it happened.

    Of pairs, where a[i] and b[i] belong together, McNemar's test; otherwise Fisher's. 1 where nothing tells against it.
    """
    x, y = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if not paired:
        return float(scipy_stats.fisher_exact([[s.sum(), len(s) - s.sum()] for s in (x, y)]).pvalue)
    only_x, unlike = int((x & ~y).sum()), int((x != y).sum())
    return float(scipy_stats.binomtest(only_x, unlike).pvalue) if unlike else 1.0


def bonferroni(p: ArrayLike) -> Floats:
    """p [m] times the number of tests made (those not NaN), at most 1; NaN stays NaN."""
    array = np.asarray(p, dtype=float)
    return np.minimum(array * np.count_nonzero(~np.isnan(array)), 1.0)


def holm(p: ArrayLike) -> Floats:
    """p [m] adjusted after Holm (1979), over the tests made (those not NaN); NaN stays NaN.

    The i-th smallest is multiplied by m - i + 1 and is at least as large as the one before: never above Bonferroni,
    and with the same guarantee.
    """
    array = np.asarray(p, dtype=float)
    adjusted = np.full(array.shape, np.nan)
    made = np.flatnonzero(~np.isnan(array))
    order = made[np.argsort(array[made], kind="stable")]
    adjusted[order] = np.minimum(np.maximum.accumulate(array[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def expected_best(select: ArrayLike, report: ArrayLike | None = None, level: float = LEVEL) -> Floats:
    """Expected score of the best of n trials, for n = 1 ... N / 2, from N trials ("Show Your Work", Dodge et al. 2019).

    The estimator is the unbiased one, over all subsets of n of the N trials, drawn without replacement (Tang et al.
    2020); that of Dodge et al. draws with replacement and is biased against the variant. The band is the jackknife's,
    with Student's t for the 2 N / n trials that matter most. It covers the true expectation in some 95 % of searches
    (docs/calibration.md); beyond N / 2, where none does, there is no curve.

    A trial that diverged is to be given as infinite in `select`: it counts as if it were as bad as the worst that did
    not. NaN does not count.

    Args:
        select: [N] scores by which the best of n is chosen.
        report: [N] scores whose expectation is returned; default `select`.
        level: of the band.

    Returns:
        [max(1, N // 2), 4] of n, estimate, low, high; the band is NaN if N = 1; empty if no score is finite.
    """
    ordered = _by_rank(select, report)
    finite = ordered[np.isfinite(ordered)]
    if not len(finite):
        return np.empty((0, 4))
    ordered = np.where(np.isfinite(ordered), ordered, finite.max())
    n_trials = len(ordered)
    n = np.arange(1, max(1, n_trials // 2) + 1)
    estimate = _best_of(n, n_trials) @ ordered
    if n_trials == 1:
        return np.column_stack([n, estimate, [NAN], [NAN]])
    weights, none = _best_of(n, n_trials - 1), np.zeros((len(n), 1))
    before = np.hstack([none, np.cumsum(weights * ordered[:-1], axis=1)])  # of trials better than the one left out
    after = np.hstack([np.cumsum((weights * ordered[1:])[:, ::-1], axis=1)[:, ::-1], none])
    error = (before + after).std(axis=1) * (n_trials - 1) ** 0.5
    reach = scipy_stats.t.ppf((1 + level) / 2, 2 * n_trials / n - 1) * error
    return np.column_stack([n, estimate, estimate - reach, estimate + reach])


def pareto_front(cost: ArrayLike, score: ArrayLike) -> NDArray[np.intp]:
    """Indices of the points that no other betters: none has a lower score at no higher cost. By rising cost.

    Args:
        cost, score: [n]; points with a NaN or infinite coordinate are left out.
    """
    c, s = np.asarray(cost, dtype=float), np.asarray(score, dtype=float)
    known = np.flatnonzero(np.isfinite(c) & np.isfinite(s))
    order = known[np.lexsort((s[known], c[known]))]
    if not len(order):
        return order
    lowest = np.minimum.accumulate(s[order])
    return order[np.append(True, lowest[1:] < lowest[:-1])]


def box(values: ArrayLike) -> dict[str, float]:
    """n, low, q1, median, q3, high and mean of the finite values: whole range and quartiles; NaN if there are none."""
    x = _finite(values)
    names = ("low", "q1", "median", "q3", "high")
    numbers = np.percentile(x, [0, 25, 50, 75, 100]) if len(x) else np.full(5, np.nan)
    return {"n": len(x), **dict(zip(names, numbers.tolist(), strict=True)), "mean": mean(x)}


def fence(values: ArrayLike) -> float:
    """What lies above it is far worse than the rest: Tukey's far-out fence, q3 + 3 (q3 - q1).

    Where more than a quarter of the values ran away, so that they carry q3 with them, the fence is that of the better
    half, median + 7 (median - q1), which for normal values is the same: it holds against up to a half. It is taken
    where it is at least `RUNAWAY` times as near to the lowest value. NaN if there are no finite values.
    """
    of = box(values)
    tukey, better = of["q3"] + 3 * (of["q3"] - of["q1"]), of["median"] + 7 * (of["median"] - of["q1"])
    carried = of["q1"] < of["median"] and tukey - of["low"] > RUNAWAY * (better - of["low"])
    return better if carried else tukey


def mean(values: ArrayLike) -> float:
    """Mean of the finite values; NaN if there are none."""
    x = _finite(values)
    return float(x.mean()) if len(x) else NAN


def sd(values: ArrayLike) -> float:
    """Sample standard deviation (n - 1) of the finite values; NaN if n < 2."""
    x = _finite(values)
    return float(x.std(ddof=1)) if len(x) > 1 else NAN


def _finite(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=float)
    return array[np.isfinite(array)]


def _n_best(n: int, fraction: float) -> int:
    return max(1, int(np.floor(fraction * n + 0.5)))


def _by_rank(select: ArrayLike, report: ArrayLike | None) -> Floats:
    """The `report` scores of the trials whose `select` is not NaN, from best to worst; NaN where that is infinite."""
    by = np.asarray(select, dtype=float)
    scores = by if report is None else np.asarray(report, dtype=float)
    order = np.argsort(by, kind="stable")
    order = order[~np.isnan(by[order])]
    return np.where(np.isfinite(by[order]), scores[order], np.nan)


def _best_of(n: NDArray[np.intp], n_trials: int) -> Floats:
    """[n, rank] share of the subsets of n of N trials whose best is the one of this rank."""
    n, rank = n[:, None], np.arange(1, n_trials + 1)
    with np.errstate(invalid="ignore"):
        logs = _log_choose(n_trials - rank, n - 1) - _log_choose(n_trials, n)
    return np.where(rank <= n_trials - n + 1, np.exp(logs), 0.0)


def _log_choose(n: ArrayLike, k: ArrayLike) -> Floats:
    n, k = np.asarray(n, dtype=float), np.asarray(k, dtype=float)
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
