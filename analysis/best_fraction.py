"""The mean over the best fraction of a random search, with errors that hold. Pure functions; a lower score is better.

What is estimated is a property of the search, not of the k trials that happened to be best: T = E[y | v <= t], with y
the test score of a trial, v the score that picks, and t the quantile q of v. The best k of n trials are order
statistics with a threshold of their own, so that a test which takes them for k independent draws finds differences
where there are none (docs/calibration.md). The influence function of T (Hampel 1974) counts the threshold too::

    psi_i = 1{v_i <= t} (y_i - a) / q + a - T,    a = E[y | v = t]

Its variance over n is [s^2 + (1 - q) (a - T)^2] / k, with s the standard deviation of the best. Where trial i of two
variants has the same settings and seed, psi is differenced trial by trial, and what they share drops out. A diverged
trial is never picked, but it counts in n: it is to be given as infinite in `select`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.stats import LEVEL, NAN, Floats, Interval, best_fraction

MIN_BEST = 5  # fewer have no standard error that holds
MIN_FIRST = 20  # of fewer, a probability of 0.9 of being first is true of 5 to 9 in ten (docs/calibration.md)


@dataclass(frozen=True)
class Best:
    """The best fraction of n trials.

    Attributes:
        report: [n] scores that are averaged.
        picked: [k] the best trials, best first.
        near: trials on either side of the threshold, half as many on each as there are best; empty if no other
            trial could have been picked.
    """

    report: Floats
    picked: NDArray[np.intp]
    near: NDArray[np.intp]

    @property
    def scores(self) -> Floats:
        """[k] of the best."""
        return self.report[self.picked]

    @property
    def testable(self) -> bool:
        """Whether they are enough for a standard error."""
        return len(self.picked) >= MIN_BEST

    @cached_property
    def mean(self) -> tuple[float, Floats]:
        """`influence` of the scores themselves."""
        return self.influence(self.report)

    def influence(self, values: Floats) -> tuple[float, Floats]:
        """The mean of `values` [n] over the best, and the influence [n] of each trial on it."""
        mean = float(values[self.picked].mean())
        at_threshold = float(values[self.near].mean()) if len(self.near) else mean
        psi = np.full(len(values), at_threshold - mean)
        psi[self.picked] += (values[self.picked] - at_threshold) * len(values) / len(self.picked)
        return mean, psi


@dataclass(frozen=True)
class Estimate:
    """An estimate with the errors of Student's t.

    Attributes:
        value: estimated.
        error: its standard error.
        freedom: degrees of freedom of that.
        n: trials of each variant, or pairs, that it is from.
    """

    value: float
    error: float = NAN
    freedom: float = NAN
    n: int = 0

    @property
    def p(self) -> float:
        """Two-sided, of the true value being 0; NaN without a standard error above 0."""
        if not self.error > 0:
            return NAN
        return float(2 * special.stdtr(self.freedom, -abs(self.value) / self.error))

    def p_above(self, bound: float = 0.0) -> float:
        """One-sided p of the true value being at most `bound`; NaN without a standard error above 0."""
        if not self.error > 0:
            return NAN
        return float(special.stdtr(self.freedom, (bound - self.value) / self.error))

    def lower(self, alpha: float) -> float:
        """Lower bound of the true value, above it with probability `alpha`."""
        return self.value + float(special.stdtrit(self.freedom, alpha)) * self.error

    def upper(self, alpha: float) -> float:
        """Upper bound of the true value, below it with probability `alpha`."""
        return self.value - float(special.stdtrit(self.freedom, alpha)) * self.error

    def interval(self, level: float = LEVEL) -> Interval:
        """The confidence interval; NaN without a standard error."""
        return Interval(self.value, self.lower((1 - level) / 2), self.upper((1 - level) / 2))

    def of(self, n: int) -> "Estimate":
        """As it is expected from n trials: the variance falls, and the degrees of freedom rise, in proportion."""
        return replace(self, error=self.error * (self.n / n) ** 0.5, freedom=self.freedom * n / self.n, n=n)


def best(select: ArrayLike, report: ArrayLike, fraction: float = 0.1) -> Best:
    """The best `fraction` of trials, with what stands next to them.

    Args:
        select: [n] scores that pick the best, as in `stats.best_fraction`, none NaN.
        report: [n] scores, finite where `select` is.
        fraction: in (0, 1].

    Raises:
        ValueError: a score of `select` is NaN.
    """
    by, scores = np.asarray(select, dtype=float), np.asarray(report, dtype=float)
    if np.isnan(by).any():
        raise ValueError("select: expected no NaN")
    picked = best_fraction(by, fraction)
    order = np.argsort(by, kind="stable")
    order = order[np.isfinite(by[order])]
    k, half = len(picked), -(-len(picked) // 2)
    near = order[k - half : k + half] if len(order) > k else order[:0]
    return Best(np.where(np.isfinite(by), scores, 0.0), picked, near)


def mean(of: Best) -> Estimate:
    """The mean of the best; without an error if they are fewer than `MIN_BEST`."""
    if not len(of.picked):
        return Estimate(NAN)
    value, psi = of.mean
    if not of.testable:
        return Estimate(value, n=len(psi))
    return Estimate(value, float((psi.var(ddof=1) / len(psi)) ** 0.5), len(of.picked) - 1, len(psi))


def difference(a: Best, b: Best, paired: bool) -> Estimate:
    """Mean of the best of `a` less that of `b`; without an error if either is fewer than `MIN_BEST`.

    Args:
        a, b: the trials of two variants.
        paired: whether trial i of both has the same settings and seed.
    """
    n = min(len(a.report), len(b.report))
    if not len(a.picked) or not len(b.picked):
        return Estimate(NAN, n=n)
    (mean_a, psi_a), (mean_b, psi_b) = a.mean, b.mean
    if not (a.testable and b.testable):
        return Estimate(mean_a - mean_b, n=n)
    return Estimate(mean_a - mean_b, *_error(a, b, psi_a, -psi_b, paired), n)


def effect_size(a: Best, b: Best, paired: bool, level: float = LEVEL) -> Interval:
    """The difference of the means over the pooled standard deviation of the best, with its interval.

    Cohen's d with the correction of Hedges (1981) for few of them, to first order, and his degrees of freedom,
    k_a + k_b - 2. The error is of both parts, by the delta method: the variance is the mean over the best of
    (y - T)^2. NaN if either is fewer than `MIN_BEST`, or neither has any spread.
    """
    if not (a.testable and b.testable):
        return Interval(NAN, NAN, NAN)
    (mean_a, psi_a), (mean_b, psi_b) = a.mean, b.mean
    pooled = (a.scores.var(ddof=1) + b.scores.var(ddof=1)) / 2
    if not pooled > 0:
        return Interval(NAN, NAN, NAN)
    sd = float(pooled**0.5)
    value = (mean_a - mean_b) / sd
    _, spread_a = a.influence((a.report - mean_a) ** 2)
    _, spread_b = b.influence((b.report - mean_b) ** 2)
    influence_a = psi_a / sd - value * spread_a / (4 * pooled)
    influence_b = -psi_b / sd - value * spread_b / (4 * pooled)
    error, _ = _error(a, b, influence_a, influence_b, paired)
    freedom = len(a.picked) + len(b.picked) - 2
    unbiased = 1 - 3 / (4 * freedom - 1)
    return Estimate(unbiased * value, unbiased * error, freedom).interval(level)


def probability_of_improvement(a: Best, b: Best, paired: bool, level: float = LEVEL) -> Interval:
    """Probability that one of the best of `a` is lower, so better, than one of `b`'s; ties count half.

    It is the Mann-Whitney statistic over k_a k_b (so named by Agarwal et al. 2021). The interval is symmetric in the
    arcsine of the square root; where all of one are below all of the other, it is Wilson's for k of k. NaN if either is
    fewer than `MIN_BEST`.
    """
    if not (a.testable and b.testable):
        return Interval(NAN, NAN, NAN)
    value, influence_a = a.influence(share_below(a.report, b.scores))
    _, influence_b = b.influence(1 - share_below(b.report, a.scores))
    error, freedom = _error(a, b, influence_a, influence_b, paired)
    if value in (0, 1):
        k = min(len(a.picked), len(b.picked))
        reach = 1 - 1 / (1 + float(special.stdtrit(k - 1, (1 - level) / 2)) ** 2 / k)
        return Interval(value, max(0.0, value - reach), min(1.0, value + reach))
    # What depends on both of a pair is in the variance of either side's shares, which are of the few of the other.
    below = (1 - np.sign(a.scores[:, None] - b.scores)) / 2
    left = below - below.mean(axis=1, keepdims=True) - below.mean(axis=0) + value
    twice = float((left**2).sum()) / ((len(a.picked) - 1) * (len(b.picked) - 1) * below.size)
    error = max(error**2 - twice, error**2 / 4) ** 0.5
    angle = Estimate(float(np.arcsin(value**0.5)), error / (2 * (value * (1 - value)) ** 0.5), freedom).interval(level)
    low, high = np.sin(np.clip(angle[1:], 0, np.pi / 2)) ** 2
    return Interval(value, float(low), float(high))


def first_probabilities(
    variants: Sequence[Best], numbers: Sequence[NDArray[np.intp]], n_draws: int = 20_000, seed: int = 0
) -> Floats:
    """How probable it is of each of V variants that its mean over the best is the lowest, given what was seen.

    The true means are taken to be drawn from a normal distribution, whose spread is as probable, before the data, at
    any value: what stands out of many variants has had luck, and is drawn towards the rest. The errors have the
    covariance of the influences, over trials of one number where draws are paired, and Student's tails.

    Args:
        variants: those with fewer than `MIN_FIRST` are not ranked.
        numbers: of each variant's trials, [n]: trials of one number belong together.
        n_draws: of the means.
        seed: of the draws.

    Returns:
        [V]; NaN for a variant that is not ranked, and for all if only one is.
    """
    ranked = [place for place, one in enumerate(variants) if len(one.picked) >= MIN_FIRST]
    found = np.full(len(variants), np.nan)
    if len(ranked) < 2:
        return found
    columns = {number: place for place, number in enumerate(dict.fromkeys(np.concatenate(numbers).tolist()))}
    means, influences = np.empty(len(ranked)), np.zeros((len(ranked), len(columns)))
    for row, place in enumerate(ranked):
        means[row], psi = variants[place].mean
        own = [columns[number] for number in numbers[place].tolist()]
        influences[row, own] = psi / (len(psi) * (len(psi) - 1)) ** 0.5
    # Differences from the average are all that counts: the average of all means may be anything.
    contrasts = np.linalg.svd(np.eye(len(ranked)) - 1 / len(ranked)).U[:, :-1]
    variances, axes = np.linalg.eigh(contrasts.T @ influences @ influences.T @ contrasts)
    variances = np.maximum(variances, 1e-12 * max(float(variances.max()), 1e-300))
    seen = axes.T @ contrasts.T @ means
    spreads = np.linspace(0, 3 * max(float(abs(seen).max()), 1e-300), 200)[:, None] ** 2
    logs = -0.5 * (np.log(variances + spreads) + seen**2 / (variances + spreads)).sum(axis=1)
    weights = np.exp(logs - logs.max())
    rng = np.random.default_rng(seed)
    spread = spreads[rng.choice(len(spreads), n_draws, p=weights / weights.sum())]
    freedom = min(len(one.picked) for one in variants if one.testable)
    tails = (freedom / rng.chisquare(freedom, (n_draws, 1))) ** 0.5
    kept = spread / (spread + variances)
    draws = kept * seen + tails * (kept * variances) ** 0.5 * rng.standard_normal((n_draws, len(seen)))
    first = (draws @ axes.T @ contrasts.T).argmin(axis=1)
    found[ranked] = np.bincount(first, minlength=len(ranked)) / n_draws
    return found


def power_to_show(estimate: Estimate, bound: float, alpha: float) -> float:
    """Probability that a one-sided test at `alpha` shows on which side of `bound` the true value is, if it is as
    estimated.

    By the noncentral t distribution. NaN without a standard error above 0.
    """
    return float(_shown(estimate.value, np.float64(estimate.error), estimate.freedom, bound, alpha))


def power_of_equivalence(estimate: Estimate, margin: float, alpha: float) -> float:
    """Probability that two one-sided tests at `alpha` show the true value to be within `margin` of 0, if it is as
    estimated.

    By the normal approximation to their joint distribution, with Student's critical value. NaN as in `power_to_show`.
    """
    return float(_equivalent(estimate.value, np.float64(estimate.error), estimate.freedom, margin, alpha))


def more_to_show(estimate: Estimate, bound: float, alpha: float, power: float = 0.8) -> float:
    """Trials of each variant on top of the n there are, at least 1, until `power_to_show` reaches `power`.

    Infinite above a million, NaN without a standard error above 0.
    """
    return _more(estimate, lambda errors, freedom: _shown(estimate.value, errors, freedom, bound, alpha), power)


def more_to_equivalence(estimate: Estimate, margin: float, alpha: float, power: float = 0.8) -> float:
    """As `more_to_show`, until `power_of_equivalence` reaches `power`."""
    return _more(estimate, lambda errors, freedom: _equivalent(estimate.value, errors, freedom, margin, alpha), power)


def min_trials(fraction: float = 0.1) -> int:
    """The fewest trials whose best `fraction` is `MIN_BEST`."""
    return int(np.ceil((MIN_BEST - 0.5) / fraction))


def expected_power(estimate: Estimate, n: int, bound: float, alpha: float) -> float:
    """`power_to_show` from n trials of each variant, averaged over what the error, an estimate too, may truly be.

    NaN without a standard error above 0.
    """
    if not estimate.error > 0:
        return NAN
    errors, freedom = _possible(estimate) * (estimate.n / n) ** 0.5, estimate.freedom * n / estimate.n
    return float(_shown(estimate.value, errors, freedom, bound, alpha).mean())


def _possible(estimate: Estimate) -> Floats:
    """What the true error may be: with the estimated one, taken for certain, too much power would be promised."""
    quantiles = (np.arange(16) + 0.5) / 16
    found = estimate.error * (estimate.freedom / special.chdtri(estimate.freedom, quantiles)) ** 0.5
    return np.asarray(found, dtype=np.float64)


def _shown(value: float, errors: Any, freedom: float, bound: float, alpha: float) -> Any:
    """`power_to_show`, for each of several errors."""
    critical = -special.stdtrit(freedom, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = abs(value - bound) / errors
    missed = special.nctdtr(freedom, shift, critical)
    power = np.where(np.isnan(missed), shift > critical, 1 - missed)  # too far out for the function
    return np.where(errors > 0, power, NAN)


def _equivalent(value: float, errors: Any, freedom: float, margin: float, alpha: float) -> Any:
    """`power_of_equivalence`, for each of several errors."""
    critical = -special.stdtrit(freedom, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        below, above = (margin - value) / errors, (margin + value) / errors
    power = np.maximum(0.0, special.ndtr(below - critical) + special.ndtr(above - critical) - 1)
    return np.where(errors > 0, power, NAN)


def _more(estimate: Estimate, power_of: Callable[[Floats, float], Floats], power: float) -> float:
    """The trials after which the power, of errors and their degrees of freedom, reaches `power`."""
    if not estimate.error > 0:
        return NAN
    errors = _possible(estimate)

    def reached(n: int) -> bool:
        found = power_of(errors * (estimate.n / n) ** 0.5, estimate.freedom * n / estimate.n)
        return sum(found.tolist()) >= power * len(errors)

    low, high, most = estimate.n, estimate.n + 1, 1_000_000
    if not reached(most):
        return float("inf")
    while not reached(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return float(high - estimate.n)


def share_below(values: Floats, others: Floats) -> Floats:
    """[n] share of `others` that each of `values` [n] is lower than; ties count half."""
    ordered = np.sort(others)
    above = len(others) - np.searchsorted(ordered, values, side="right")
    ties = np.searchsorted(ordered, values, side="right") - np.searchsorted(ordered, values, side="left")
    return (above + ties / 2) / len(others)


def _error(a: Best, b: Best, psi_a: Floats, psi_b: Floats, paired: bool) -> tuple[float, float]:
    """Standard error of a sum of two means with these influences, and its degrees of freedom.

    Of pairs, the degrees of freedom are the number of trials that are among the best of either: that many influences
    differ from a constant, which is one value more, less one for their mean. Otherwise they are Welch's, of k - 1 each.
    """
    if paired:
        both = psi_a + psi_b
        return float((both.var(ddof=1) / len(both)) ** 0.5), float(len(np.union1d(a.picked, b.picked)))
    of_a, of_b = psi_a.var(ddof=1) / len(psi_a), psi_b.var(ddof=1) / len(psi_b)
    if not of_a + of_b > 0:
        return 0.0, NAN
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a.picked) - 1) + of_b**2 / (len(b.picked) - 1))
    return float((of_a + of_b) ** 0.5), float(freedom)
