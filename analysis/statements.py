"""What the statements of findings come to on the data of a study: see `analysis.findings`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from analysis import best_fraction, fanova
from analysis.best_fraction import Estimate
from analysis.compare import ALPHA, contrast_of
from analysis.frames import BASELINE, records
from analysis.importance import NAMES, Importance

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"
NOT_TESTABLE, REFERENCE = "not testable here", "for reference"
VERDICTS = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_TESTABLE, REFERENCE)
WRONG = 0.01  # of studies in which one test of a share or a marginal errs, one-sided
N_DRAWS = 1000  # of a marginal


@dataclass(frozen=True)
class Evidence:
    """What the tests see of one task of one study.

    Attributes:
        trials: as of `analysis.load`.
        comparison: of these trials, as of `compare`.
        importance: of these trials.
    """

    trials: pd.DataFrame
    comparison: pd.DataFrame
    importance: Importance

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The comparison by variant."""
        return {str(row["variant"]): row for row in records(self.comparison)}


@dataclass(frozen=True)
class Outcome:
    """A verdict, the numbers behind it, and how many more trials of each variant would settle it (NaN: no number)."""

    verdict: str
    evidence: str
    more: float = math.nan


def worse(evidence: Evidence, variants: Sequence[str], margin: float) -> Outcome:
    """Each variant is significantly worse than vanilla, and shown to be so by more than the margin. Contradicted by one
    that is shown not to be."""

    def holds(contrast: _Contrast) -> bool | None:
        if contrast.significant and contrast.above(contrast.margin):
            return True
        return False if contrast.below(contrast.margin, contrast.any_of) else None

    def more(contrast: _Contrast) -> float:
        sides = 1 if contrast.value > contrast.margin else contrast.any_of
        return contrast.more_to_show(contrast.margin, ALPHA / sides)

    return _of_variants(evidence, variants, margin, holds, more)


def no_difference(evidence: Evidence, variants: Sequence[str], margin: float) -> Outcome:
    """Each variant is shown to differ from vanilla by less than the margin. Contradicted by one that differs
    significantly, and is shown to do so by more."""

    def holds(contrast: _Contrast) -> bool | None:
        if contrast.above(-contrast.margin) and contrast.below(contrast.margin):
            return True
        beyond = contrast.above(contrast.margin, 2 * contrast.any_of) or contrast.below(
            -contrast.margin, 2 * contrast.any_of
        )
        return False if contrast.significant and beyond else None

    def more(contrast: _Contrast) -> float:
        if abs(contrast.value) < contrast.margin:
            return best_fraction.more_to_equivalence(contrast.estimate, contrast.margin, ALPHA)
        return contrast.more_to_show(math.copysign(contrast.margin, contrast.value), ALPHA / (2 * contrast.any_of))

    return _of_variants(evidence, variants, margin, holds, more)


def none_better(evidence: Evidence, margin: float) -> Outcome:
    """Every other variant is shown not to be better than vanilla by the margin. Contradicted by one that is
    significantly better, and shown to be so by more."""

    def holds(contrast: _Contrast) -> bool | None:
        if contrast.above(-contrast.margin):
            return True
        return False if contrast.significant and contrast.below(-contrast.margin, contrast.any_of) else None

    def more(contrast: _Contrast) -> float:
        sides = 1 if contrast.value > -contrast.margin else contrast.any_of
        return contrast.more_to_show(-contrast.margin, ALPHA / sides)

    others = [variant for variant in evidence.rows if variant != BASELINE]
    if not others:
        return Outcome(NOT_TESTABLE, f"The study has no variant but {BASELINE}.")
    return _of_variants(evidence, others, margin, holds, more)


def share(
    evidence: Evidence,
    of: str | Sequence[str],
    score: fanova.Score,
    above: float | None = None,
    below: float | None = None,
) -> Outcome:
    """The share of the variance of E[score | settings] due to a setting alone, or to the interaction of several, is
    above or below a bound. Trials that diverged count as the cutoff; the share without them is told where it differs
    by more than its error."""
    names = [of] if isinstance(of, str) else list(of)
    fitted = _fitted(evidence, score, names)
    if isinstance(fitted, Outcome):
        return fitted
    bound = above if above is not None else below
    assert bound is not None
    estimate, error = fitted.debiased(*names)
    text = f"{' x '.join(names)}: {_percent(estimate)} of the variance of {_words(score)} by settings "
    text += f"(se {_percent(error)}, n = {fitted.n}{_without_diverged(evidence, fitted, score, names)})"
    _, error = fitted.debiased(*names, at=bound)
    return _sign(text, (estimate - bound) * (1 if above is not None else -1), error, fitted.n)


def rank(evidence: Evidence, of: str, score: fanova.Score, place: int) -> Outcome:
    """The setting has this place among the shares of single settings."""
    fitted = _fitted(evidence, score, [of])
    if isinstance(fitted, Outcome):
        return fitted
    shares = {name: fitted.debiased(name) for name in fitted.dimensions}
    gaps = [fitted.ahead(name, of) for name in fitted.dimensions if name != of]
    first = 1 + sum(gap > _sure(fitted.n) * error for gap, error in gaps)
    last = 1 + sum(gap > -_sure(fitted.n) * error for gap, error in gaps)
    ordered = sorted(shares, key=lambda name: -shares[name][0])
    text = ", ".join(f"{name} {_percent(shares[name][0])} (se {_percent(shares[name][1])})" for name in ordered)
    text = f"Shares of the variance of {_words(score)} by settings: {text}; {of} is between places {first} and {last}"
    if first == last == place:
        return Outcome(REPRODUCED, f"{text}.")
    if not first <= place <= last:
        return Outcome(CONTRADICTED, f"{text}.")
    more = max(_more_for(gap, error, fitted.n) for gap, error in gaps if abs(gap) <= _sure(fitted.n) * error)
    return Outcome(INCONCLUSIVE, f"{text}.", more)


def trend(evidence: Evidence, of: str, score: fanova.Score, direction: str) -> Outcome:
    """The straight line through the marginal of the setting, on the scale it was sampled on, rises or falls."""
    fitted = _fitted(evidence, score, [of], numbers=True)
    if isinstance(fitted, Outcome):
        return fitted
    rise, error = fitted.rise(of)
    text = f"The marginal of {_words(score)} {'rises' if rise > 0 else 'falls'} by {abs(rise):.3g} over the range of "
    text += f"{of} (straight line, se {error:.2g}, n = {fitted.n})"
    return _sign(text, rise * (1 if direction == "rising" else -1), error, fitted.n)


def diminishing(evidence: Evidence, of: str, score: fanova.Score) -> Outcome:
    """The parabola through the marginal, over the setting in its own units, falls by more over the lower half of the
    range than over the upper."""
    fitted = _fitted(evidence, score, [of], numbers=True)
    if isinstance(fitted, Outcome):
        return fitted
    (lower, upper), covariance = fitted.rises(of)
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    text = f"Gain in {_words(score)} over the lower half of {of}: {-lower:.3g}, over the upper: {-upper:.3g} "
    text += f"(parabola, se of the difference {error:.2g}, n = {fitted.n})"
    return _sign(text, upper - lower, error, fitted.n)


def basin(evidence: Evidence, of: str, within: float, at_least: float, at_most: float) -> Outcome:
    """The values of a setting whose marginal is within a fraction of its range above its lowest point span a number of
    orders of magnitude between two bounds. The widths that the trials allow are those of draws of the marginal.

    It is described and not judged: simulated, the interval of 98 % holds the true width in 62 to 75 % of studies."""
    spec = evidence.importance.plan.space.get(of, {})
    if "log" not in str(spec.get("distribution")) or not math.log10(spec["high"] / spec["low"]) > at_most:
        return Outcome(NOT_TESTABLE, f"{of} was not searched over more than {at_most:g} orders of magnitude.")
    fitted = _fitted(evidence, "test_score", [of])
    if isinstance(fitted, Outcome):
        return fitted
    values, mean, covariance = fitted.curve(of)
    orders = np.log10(np.array(values, dtype=float))
    width = _width(orders, mean, within)
    rng = np.random.default_rng(0)
    draws = mean + rng.standard_normal((N_DRAWS, len(mean))) @ _root(covariance).T
    widths = np.array([_width(orders, draw, within) for draw in draws])
    low, high = np.quantile(widths, [WRONG, 1 - WRONG])
    text = f"{of} within {_percent(within)} of the best: {width:.1f} orders of magnitude ({low:.1f} to {high:.1f}, "
    text += f"n = {fitted.n}), for a finding of {at_least:g} to {at_most:g}. Shown, not judged: in simulated studies "
    text += "such widths read low, and their intervals hold the true one too rarely."
    return Outcome(INCONCLUSIVE, text)


def reference(evidence: Evidence, score: float) -> Outcome:
    """A reported best score, shown beside the best of the study."""
    best = evidence.comparison["best_test_score"].min()
    here = f"here the best trial of a variant has {best:.2f}" if math.isfinite(best) else "here no trial has finished"
    return Outcome(REFERENCE, f"Reported: {score:g}; {here}.")


@dataclass(frozen=True)
class _Contrast:
    """A difference from vanilla, and what it is held against.

    Attributes:
        estimate: of the difference.
        significant: as in `compare`.
        level: at which it is significant, two-sided.
        margin: below which it counts as none.
        any_of: number of variants of which any can contradict.
    """

    estimate: Estimate
    significant: bool
    level: float
    margin: float
    any_of: int

    @property
    def value(self) -> float:
        return self.estimate.value

    def above(self, bound: float, tests: int = 1) -> bool:
        """Whether it is shown to be above a bound."""
        return self.estimate.lower(ALPHA / tests) > bound

    def below(self, bound: float, tests: int = 1) -> bool:
        """Whether it is shown to be below a bound."""
        return self.estimate.upper(ALPHA / tests) < bound

    def more_to_show(self, bound: float, alpha: float) -> float:
        """More trials until it is shown on which side of the bound it is, and, beyond the margin, significantly so."""
        more = best_fraction.more_to_show(self.estimate, bound, alpha)
        if abs(self.value) <= self.margin or self.significant:
            return more
        return max(more, best_fraction.more_to_show(self.estimate, 0.0, self.level / 2))


def _of_variants(
    evidence: Evidence,
    variants: Sequence[str],
    margin: float,
    holds: Callable[[_Contrast], bool | None],
    more: Callable[[_Contrast], float],
) -> Outcome:
    rows = evidence.rows
    absent = [variant for variant in (BASELINE, *variants) if variant not in rows]
    if absent:
        return Outcome(NOT_TESTABLE, f"The study has no variant {', '.join(absent)}.")
    width = margin * abs(rows[BASELINE]["best_mean"])
    level = ALPHA / max(1, sum(row["test"] == "tested" for row in rows.values()))
    outcomes = []
    for variant in variants:
        row = rows[variant]
        if row["test"] != "tested":
            outcomes.append(Outcome(INCONCLUSIVE, f"{variant}: {row['test']}.", row["more_trials"]))
            continue
        contrast = _Contrast(contrast_of(row), bool(row["significant"]), level, width, len(variants))
        low, high = contrast.estimate.lower(ALPHA), contrast.estimate.upper(ALPHA)
        text = f"{variant}: {contrast.value:+.3g} [{low:+.3g}, {high:+.3g}], "
        text += f"p {'< 0.001' if row['p_adjusted'] < 0.001 else '= ' + format(row['p_adjusted'], '.2g')}, "
        text += f"margin {width:.2g}, n = {row['n_best']:d}."
        answer = holds(contrast)
        if answer is None:
            outcomes.append(Outcome(INCONCLUSIVE, text, more(contrast)))
        else:
            outcomes.append(Outcome(REPRODUCED if answer else CONTRADICTED, text))
    return all_of(outcomes)


def all_of(outcomes: Sequence[Outcome]) -> Outcome:
    """The verdict on all together: contradicted by one, otherwise as weak as the weakest."""
    order = (CONTRADICTED, NOT_TESTABLE, INCONCLUSIVE, REPRODUCED, REFERENCE)
    verdict = min((outcome.verdict for outcome in outcomes), key=order.index)
    known = [outcome.more for outcome in outcomes if outcome.verdict == INCONCLUSIVE]
    more = max(known) if known and not any(map(math.isnan, known)) else math.nan
    texts = [outcome.evidence for outcome in outcomes]
    if len({outcome.verdict for outcome in outcomes}) > 1:
        texts = [f"{outcome.evidence[:-1]}: {outcome.verdict}." for outcome in outcomes]
    return Outcome(verdict, " ".join(dict.fromkeys(texts)), more)


def _fitted(
    evidence: Evidence, score: fanova.Score, names: Sequence[str], numbers: bool = False
) -> fanova.Fanova | Outcome:
    """The functional ANOVA of vanilla, or the outcome that there is none to judge by."""
    importance = evidence.importance
    if BASELINE not in importance.variants:
        return Outcome(NOT_TESTABLE, f"The study has no variant {BASELINE}.")
    if importance.plan.learns:
        return Outcome(NOT_TESTABLE, "The search was led by scores: shares and marginals have no errors.")
    fitted = importance.fit(score, BASELINE)
    varied = fitted.dimensions if fitted else importance.settings
    absent = [name for name in names if name not in varied]
    if absent:
        return Outcome(NOT_TESTABLE, f"The study does not vary {', '.join(absent)}.")
    if fitted is None:
        return Outcome(INCONCLUSIVE, f"{BASELINE}, {_words(score)}: {importance.why(score, BASELINE)}")
    if numbers and any(evidence.importance.plan.space[name].get("values") for name in names):
        return Outcome(NOT_TESTABLE, f"{', '.join(names)} is not a number in this study.")
    if math.isnan(fitted.debiased(names[0])[0]):
        return Outcome(INCONCLUSIVE, f"Too few trials for shares with an error (n = {fitted.n}).")
    return fitted


def _without_diverged(evidence: Evidence, fitted: fanova.Fanova, score: fanova.Score, names: Sequence[str]) -> str:
    """The share without the trials that diverged, where it differs by more than its error."""
    other = evidence.importance.fit(score, BASELINE, "left out")
    if other is None or other.n == fitted.n:
        return ""
    (here, error), (there, other_error) = fitted.debiased(*names), other.debiased(*names)
    if not abs(here - there) > max(error, other_error):
        return ""
    return f"; {_percent(there)}, se {_percent(other_error)}, without the {fitted.n - other.n} that diverged"


def _sign(text: str, difference: float, error: float, n: int) -> Outcome:
    """Reproduced if `difference` is surely above 0, contradicted if surely below."""
    if abs(difference) > _sure(n) * error:
        return Outcome(REPRODUCED if difference > 0 else CONTRADICTED, f"{text}.")
    return Outcome(INCONCLUSIVE, f"{text}.", _more_for(difference, error, n))


def _sure(n: int) -> float:
    """Standard errors, from n trials, that an estimate is beyond by chance in `WRONG` of cases."""
    return float(scipy_stats.t.isf(WRONG, n - 1))


def _more_for(difference: float, error: float, n: int) -> float:
    """Further trials after which `error`, falling with the root of n, is small enough for `difference`."""
    return max(1.0, n * ((_sure(n) * error / difference) ** 2 - 1)) if difference else math.inf


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix whose product with its transpose is `covariance`, which need not have full rank."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _width(orders: np.ndarray, curve: np.ndarray, within: float) -> float:
    """Orders of magnitude over which a curve stays within a fraction of its range above its lowest point."""
    best, good = int(curve.argmin()), curve <= curve.min() + within * np.ptp(curve)
    bad = np.flatnonzero(~good)
    low = bad[bad < best].max(initial=-1) + 1
    high = bad[bad > best].min(initial=len(orders)) - 1
    return float(orders[high] - orders[low])


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %" if 100 * x < 10 else f"{100 * x:.0f} %"


def _words(score: str) -> str:
    return f"the {NAMES[score]}"
