"""Statistics of one or more samples: pure functions of arrays. A lower score is better.

Values that are NaN or infinite are left out, unless a function says otherwise. What a sample is too small for is NaN,
never an error: the docstrings say from which n on there is a number.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special
from scipy import stats as scipy_stats

Floats = NDArray[np.float64]
LEVEL = 0.95
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
    """Two-sided p of Welch's t-test, the variances not assumed equal.

    NaN, for not tested, if a sample has n < 2 or neither has any spread.
    """
    x, y = _finite(a), _finite(b)
    if not _testable(x, y):
        return NAN
    return float(scipy_stats.ttest_ind_from_stats(*_moments(x), *_moments(y), equal_var=False).pvalue)


def mann_whitney(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p of the Mann-Whitney U test; exact for small samples without ties. NaN if a sample is empty."""
    x, y = _finite(a), _finite(b)
    return float(scipy_stats.mannwhitneyu(x, y).pvalue) if len(x) and len(y) else NAN


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


def mean_difference(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean of `a` less mean of `b`, with Welch's confidence interval.

    The estimate is NaN if a sample is empty, the interval if `welch` tests nothing.
    """
    x, y = _finite(a), _finite(b)
    if not _testable(x, y):
        return Interval(mean(x) - mean(y), NAN, NAN)
    error, freedom = _standard_error(sd(x), sd(y), len(x), len(y))
    reach = float(scipy_stats.t.ppf((1 + level) / 2, freedom)) * error
    return Interval(mean(x) - mean(y), mean(x) - mean(y) - reach, mean(x) - mean(y) + reach)


def hedges_g(a: ArrayLike, b: ArrayLike, level: float = LEVEL, n_resamples: int = 2000, seed: int = 0) -> Interval:
    """Standardised difference of means, mean of `a` less mean of `b`, with a bootstrap percentile interval.

    Cohen's d with the pooled standard deviation, times the exact correction of its bias (Hedges 1981). NaN if a sample
    has n < 2 or neither has any spread; the interval is NaN below n = 5, where resamples without spread are not rare.
    """
    x, y = _finite(a), _finite(b)
    if not _testable(x, y):
        return Interval(NAN, NAN, NAN)
    estimate = float(_hedges_g(x, y))
    if min(len(x), len(y)) < 5:
        return Interval(estimate, NAN, NAN)
    rng = np.random.default_rng(seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = scipy_stats.bootstrap(
            (x, y), _hedges_g, n_resamples=n_resamples, confidence_level=level, method="percentile", rng=rng
        ).confidence_interval
    return Interval(estimate, float(interval.low), float(interval.high))


def probability_of_improvement(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> Interval:
    """Probability that a value of `a` is lower, so better, than one of `b`; ties count half.

    It is the Mann-Whitney statistic over n_a n_b (so named by Agarwal et al. 2021). The interval is Newcombe's score
    interval (2006, part 2, method 5): of all probabilities, those less than z standard errors from the estimate. Other
    than a bootstrap's it has width where one sample lies wholly below the other. NaN if a sample is empty.
    """
    x, y = _finite(a), _finite(b)
    if not len(x) or not len(y):
        return Interval(NAN, NAN, NAN)
    p = float((np.sum(x[:, None] < y) + 0.5 * np.sum(x[:, None] == y)) / (len(x) * len(y)))
    z = float(scipy_stats.norm.ppf((1 + level) / 2))
    more = (len(x) + len(y)) / 2 - 1

    def beyond(q: float) -> float:
        variance = q * (1 - q) * (1 + more * (1 - q) / (2 - q) + more * q / (1 + q)) / (len(x) * len(y))
        return (p - q) ** 2 - z**2 * variance

    tiny = 1e-9  # keeps the root at the estimate itself, 0 or 1, out of the bracket
    low = optimize.brentq(beyond, 0.0, min(p, 1 - tiny)) if p > 0 else 0.0
    high = optimize.brentq(beyond, max(p, tiny), 1.0) if p < 1 else 1.0
    return Interval(p, low, high)


def expected_best(
    select: ArrayLike, report: ArrayLike | None = None, level: float = LEVEL, n_resamples: int = 1000, seed: int = 0
) -> Floats:
    """Expected score of the best of n trials, for n = 1 ... N, from N trials ("Show Your Work", Dodge et al. 2019).

    The estimator is the unbiased one, over all subsets of n of the N trials, drawn without replacement (Tang et al.
    2020); that of Dodge et al. draws with replacement and is biased against the variant. The band is a bootstrap
    percentile interval of the estimate: it does not close towards n = N, as the spread over subsets would.

    A trial that diverged is to be given as infinite in `select`: it counts as if it were as bad as the worst that did
    not. NaN does not count.

    Args:
        select: [N] scores by which the best of n is chosen.
        report: [N] scores whose expectation is returned; default `select`.
        level: of the band.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        [N, 4] of n, estimate, low, high; the band is NaN if N = 1; empty if no score is finite.
    """
    ordered = _by_rank(select, report)
    finite = ordered[np.isfinite(ordered)]
    if not len(finite):
        return np.empty((0, 4))
    ordered = np.where(np.isfinite(ordered), ordered, finite.max())
    n_trials = len(ordered)
    n, rank = np.arange(1, n_trials + 1)[:, None], np.arange(1, n_trials + 1)
    # The best of n is the one of rank i in C(N - i, n - 1) of C(N, n) subsets.
    with np.errstate(invalid="ignore"):
        logs = _log_choose(n_trials - rank, n - 1) - _log_choose(n_trials, n)
    weights = np.where(rank <= n_trials - n + 1, np.exp(logs), 0.0)  # [n, rank]
    estimate = weights @ ordered
    low = high = np.full(n_trials, np.nan)
    if n_trials > 1:
        draws = np.sort(np.random.default_rng(seed).integers(n_trials, size=(n_resamples, n_trials)), axis=1)
        low, high = np.percentile(weights @ ordered[draws].T, [50 * (1 - level), 50 * (1 + level)], axis=1)
    return np.column_stack([n[:, 0], estimate, low, high])


def resampled_best(
    select: ArrayLike, report: ArrayLike, fraction: float = 0.1, n_resamples: int = 2000, seed: int = 0
) -> Floats:
    """Means of the `report` scores of the best `fraction`, over bootstrap resamples of the trials.

    Args:
        select: [n] scores that pick the best, as in `best_fraction`.
        report: [n] scores averaged.
        fraction: in (0, 1].
        n_resamples: R.
        seed: of the resamples.

    Returns:
        [R]; all NaN if there are fewer than 2 trials or none has finite scores.
    """
    ordered = _by_rank(select, report)
    n = len(ordered)
    if n < 2 or not np.isfinite(ordered).any():
        return np.full(n_resamples, np.nan)
    draws = np.sort(np.random.default_rng(seed).integers(n, size=(n_resamples, n)), axis=1)
    picked = ordered[draws[:, : _n_best(n, fraction)]]
    found = np.isfinite(picked)
    sums = np.where(found, picked, 0.0).sum(axis=1)
    return np.divide(sums, found.sum(axis=1), out=np.full(n_resamples, np.nan), where=found.any(axis=1))


def rank_probabilities(estimates: ArrayLike) -> Floats:
    """How often each of V variants has each rank, the lowest estimate being first; equal ones share the better rank.

    Args:
        estimates: [R, V], as V columns of `resampled_best`. A variant without an estimate (NaN) is not ranked.

    Returns:
        [V, V] probability that variant v has rank r + 1; NaN for a variant never ranked.
    """
    array = np.asarray(estimates, dtype=float)
    ranks = np.full(array.shape, np.nan)
    if array.size:
        ranks = scipy_stats.rankdata(np.where(np.isnan(array), np.inf, array), method="min", axis=1).astype(float)
    ranks[np.isnan(array)] = np.nan
    hits = ranks[:, :, None] == np.arange(1, array.shape[1] + 1)  # [R, V, rank]
    n_ranked = np.count_nonzero(~np.isnan(ranks), axis=0)[:, None]
    return np.divide(hits.sum(axis=0), n_ranked, out=np.full(hits.shape[1:], np.nan), where=n_ranked > 0)


def welch_power(difference: float, sd_a: float, sd_b: float, n: float, alpha: float = 0.05) -> float:
    """Probability that Welch's test of two samples of n settles a true `difference` of means at `alpha`, two-sided.

    By the noncentral t distribution. NaN below n = 2 or without any spread.
    """
    error, freedom = _standard_error(sd_a, sd_b, n, n)
    if not error > 0:
        return NAN
    critical = scipy_stats.t.isf(alpha / 2, freedom)
    shift = abs(difference) / error
    t = scipy_stats.nct
    return float(np.nan_to_num(t.sf(critical, freedom, shift), nan=1.0) + t.cdf(-critical, freedom, shift))


def equivalence_power(
    difference: float, sd_a: float, sd_b: float, n: float, margin: float, alpha: float = 0.05
) -> float:
    """Probability that two one-sided Welch tests at `alpha` show the means of two samples of n closer than `margin`.

    By the normal approximation to their joint distribution, with Student's critical value. NaN as in `welch_power`.
    """
    error, freedom = _standard_error(sd_a, sd_b, n, n)
    if not error > 0:
        return NAN
    critical = scipy_stats.t.isf(alpha, freedom)
    normal = scipy_stats.norm.cdf
    upper, lower = (margin - difference) / error - critical, (margin + difference) / error - critical
    return float(max(0.0, normal(upper) + normal(lower) - 1))


def n_to_settle(difference: float, sd_a: float, sd_b: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest n of both samples at which `welch_power` reaches `power`; infinite above a million, NaN as there."""
    return _smallest(lambda n: welch_power(difference, sd_a, sd_b, n, alpha), power)


def n_to_equivalence(
    difference: float, sd_a: float, sd_b: float, margin: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Smallest n of both samples at which `equivalence_power` reaches `power`; infinite above a million."""
    return _smallest(lambda n: equivalence_power(difference, sd_a, sd_b, n, margin, alpha), power)


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


def _testable(x: Floats, y: Floats) -> bool:
    return min(len(x), len(y)) > 1 and bool(np.ptp(x) or np.ptp(y))


def _moments(x: Floats) -> tuple[float, float, int]:
    return float(x.mean()), float(x.std(ddof=1)), len(x)


def _n_best(n: int, fraction: float) -> int:
    return max(1, int(np.floor(fraction * n + 0.5)))


def _hedges_g(x: Floats, y: Floats, axis: int = -1) -> Floats:
    n, m = x.shape[axis], y.shape[axis]
    freedom = n + m - 2
    pooled = np.sqrt(((n - 1) * x.var(axis=axis, ddof=1) + (m - 1) * y.var(axis=axis, ddof=1)) / freedom)
    correction = np.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    return correction * (x.mean(axis=axis) - y.mean(axis=axis)) / pooled


def _by_rank(select: ArrayLike, report: ArrayLike | None) -> Floats:
    """The `report` scores of the trials whose `select` is not NaN, from best to worst; NaN where that is infinite."""
    by = np.asarray(select, dtype=float)
    scores = by if report is None else np.asarray(report, dtype=float)
    order = np.argsort(by, kind="stable")
    order = order[~np.isnan(by[order])]
    return np.where(np.isfinite(by[order]), scores[order], np.nan)


def _log_choose(n: ArrayLike, k: ArrayLike) -> Floats:
    n, k = np.asarray(n, dtype=float), np.asarray(k, dtype=float)
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def _standard_error(sd_a: float, sd_b: float, n_a: float, n_b: float) -> tuple[float, float]:
    """Of the difference of two means, and Welch's degrees of freedom; NaN below n = 2 or without any spread."""
    a, b = sd_a**2 / n_a, sd_b**2 / n_b
    if min(n_a, n_b) < 2 or not a + b > 0:
        return NAN, NAN
    return float(np.sqrt(a + b)), float((a + b) ** 2 / (a**2 / (n_a - 1) + b**2 / (n_b - 1)))


def _smallest(reached: Callable[[int], float], power: float, most: int = 1_000_000) -> float:
    if np.isnan(reached(2)):
        return NAN
    if reached(most) < power:
        return float("inf")
    low, high = 1, 2
    while reached(high) < power:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return high
