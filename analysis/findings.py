"""Published findings, judged on the data of a study.

A finding is a statement and, for each task it speaks of, one or more named tests, all of which must hold. The verdict
on a task is one of

``reproduced``
    the data show what the statement says;
``contradicted``
    they show the opposite;
``inconclusive``
    they show neither, with an estimate of how many more trials would;
``not testable here``
    the study lacks the task, a variant or a setting that the statement is about;
``for reference``
    a number to look at, which nothing is tested against.

That a difference is not significant does not show that there is none, and a significant one may be too small to
matter. So differences are judged against a margin: one below it counts as none. "Worse" is to be worse by at least the
margin, "no difference" to differ by less than it, either way. A statement is reproduced, or contradicted, only if that,
or its opposite, is shown by one-sided tests at 5 % on the standard errors of `compare`; a difference must be
significant there too. All variants named must pass, which needs no adjustment; any of them can contradict, so that m
variants contradict at 5 % / m. Each verdict is then wrong in at most one study of twenty, whatever the truth is.

Shares and marginals are those of vanilla (PROTOCOL section 5), with two standard deviations over the trees of the
forest either way. A single tree scatters more than the forest's mean does, so this errs on the side of inconclusive.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from analysis import best_fraction, fanova
from analysis.best_fraction import Estimate
from analysis.compare import ALPHA, BASELINE, contrast_of
from analysis.importance import SCORES, Importance
from search.errors import UserError, expect, one_line

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"
NOT_TESTABLE, REFERENCE = "not testable here", "for reference"
VERDICTS = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_TESTABLE, REFERENCE)
COLUMNS = ("finding", "statement", "task", "verdict", "evidence", "more_trials")
PUBLISHED = Path(str(resources.files("configs"))) / "finding" / "odyssey.yaml"
SURE = 2.0  # standard deviations over the trees


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

    @property
    def table(self) -> pd.DataFrame:
        """The comparison by variant."""
        return self.comparison.set_index("variant")


@dataclass(frozen=True)
class Outcome:
    """A verdict, the numbers behind it, and how many more trials of each variant would settle it (NaN: no number)."""

    verdict: str
    evidence: str
    more: float = math.nan


@dataclass(frozen=True)
class NamedTest:
    """One named test with its parameters, on the tasks it is for."""

    name: str
    tasks: tuple[str, ...]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A statement and the tests that it amounts to."""

    id: str
    statement: str
    tests: tuple[NamedTest, ...]


def judge(findings: Sequence[Finding], evidence: Mapping[str, Evidence]) -> pd.DataFrame:
    """The verdict on every finding and task.

    Args:
        findings: as of `read`.
        evidence: by task.

    Returns:
        One row a finding and task it speaks of: finding (its id), statement, task, verdict, evidence (the numbers, in
        words), more_trials (of each variant, that would settle an inconclusive one; NaN elsewhere or if unknown).
    """
    rows = []
    for finding in findings:
        for task in dict.fromkeys(task for test in finding.tests for task in test.tasks):
            if task in evidence:
                tests = [test for test in finding.tests if task in test.tasks]
                outcomes = [_TESTS[test.name].judge(evidence[task], **test.parameters) for test in tests]
                outcome = _all_of(outcomes)
            else:
                outcome = Outcome(NOT_TESTABLE, f"The study has no task {task}.")
            more = outcome.more if outcome.verdict == INCONCLUSIVE else math.nan
            rows.append((finding.id, finding.statement, task, outcome.verdict, outcome.evidence, more))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read(path: str | Path = PUBLISHED) -> list[Finding]:
    """The findings in a YAML file: a list of ``id``, ``statement`` and ``tests``, each with ``test``, ``tasks`` and its
    parameters (see ``configs/finding/odyssey.yaml``).

    Raises:
        UserError: the file cannot be read; the line names the key that is wrong.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"findings={path}: expected a readable YAML file ({one_line(error)})") from None
    _expect(isinstance(content, list) and bool(content), path, "(top)", type(content).__name__, "a list of findings")
    found: dict[str, Finding] = {}
    for place, entry in enumerate(content):
        key = f"[{place}]"
        _expect_keys(path, key, entry, ("id", "statement", "tests"), ("id", "statement", "tests"))
        name = entry["id"]
        _expect(isinstance(name, str) and bool(name), path, f"{key}.id", name, "a name")
        _expect(name not in found, path, f"{key}.id", name, "each id once")
        _expect(isinstance(entry["statement"], str), path, f"{name}.statement", entry["statement"], "a text")
        tests = entry["tests"]
        _expect(isinstance(tests, list) and bool(tests), path, f"{name}.tests", tests, "a list of tests")
        parsed = tuple(_parse_test(path, f"{name}.tests[{i}]", test) for i, test in enumerate(tests))
        found[name] = Finding(name, entry["statement"], parsed)
    return list(found.values())


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

    others = [variant for variant in evidence.table.index.astype(str) if variant != BASELINE]
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
    """The share of the variance due to a setting alone, or to the interaction of several, is above or below a bound."""
    names = [of] if isinstance(of, str) else list(of)
    fitted = _fitted(evidence, score, names)
    if isinstance(fitted, Outcome):
        return fitted
    mean, sd = fitted.share(*names)
    bound = above if above is not None else below
    assert bound is not None
    text = (
        f"{' x '.join(names)}: {_percent(mean)} of the variance of {_words(score)} (sd {_percent(sd)}, n = {fitted.n})"
    )
    return _sign(text, (mean - bound) * (1 if above is not None else -1), sd, fitted.n)


def rank(evidence: Evidence, of: str, score: fanova.Score, place: int) -> Outcome:
    """The setting has this place among the shares of single settings."""
    fitted = _fitted(evidence, score, [of])
    if isinstance(fitted, Outcome):
        return fitted
    shares = {name: fitted.share(name) for name in fitted.dimensions}
    own, own_sd = shares[of]
    gaps = {n: (mean - own, math.hypot(sd, own_sd)) for n, (mean, sd) in shares.items() if n != of}
    first = 1 + sum(gap > SURE * sd for gap, sd in gaps.values())
    last = 1 + sum(gap > -SURE * sd for gap, sd in gaps.values())
    ordered = sorted(shares, key=lambda name: -shares[name][0])
    text = ", ".join(f"{name} {_percent(shares[name][0])}" for name in ordered)
    text = f"Shares of the variance of {_words(score)}: {text}; {of} is between places {first} and {last}"
    if first == last == place:
        return Outcome(REPRODUCED, f"{text}.")
    if not first <= place <= last:
        return Outcome(CONTRADICTED, f"{text}.")
    more = max(_more_for(gap, sd, fitted.n) for gap, sd in gaps.values() if abs(gap) <= SURE * sd)
    return Outcome(INCONCLUSIVE, f"{text}.", more)


def trend(evidence: Evidence, of: str, score: fanova.Score, direction: str) -> Outcome:
    """The marginal is higher (rising) or lower (falling) at the upper end of the setting's range than at the lower."""
    ends = _ends(evidence, of, score)
    if isinstance(ends, Outcome):
        return ends
    n, values, (low, low_sd), _, (high, high_sd) = ends
    text = f"Marginal of {_words(score)}: {low:.4g} at {of} = {values[0]:.4g}, {high:.4g} at {values[1]:.4g}"
    return _sign(text, (high - low) * (1 if direction == "rising" else -1), math.hypot(low_sd, high_sd), n)


def diminishing(evidence: Evidence, of: str, score: fanova.Score) -> Outcome:
    """The marginal falls by more over the lower half of the setting's range than over the upper half."""
    ends = _ends(evidence, of, score)
    if isinstance(ends, Outcome):
        return ends
    n, _, (low, low_sd), (middle, middle_sd), (high, high_sd) = ends
    text = (
        f"Gain in {_words(score)} over the lower half of {of}: {low - middle:.4g}, over the upper: {middle - high:.4g}"
    )
    return _sign(text, low + high - 2 * middle, math.hypot(low_sd, high_sd, 2 * middle_sd), n)


def basin(evidence: Evidence, of: str, within: float, at_least: float, at_most: float) -> Outcome:
    """The values of a setting whose marginal is within a fraction of its range above its lowest point span a number of
    orders of magnitude between two bounds. They are counted with the marginal one sd lower and one sd higher."""
    spec = evidence.importance.plan.space.get(of, {})
    if "log" not in str(spec.get("distribution")) or not math.log10(spec["high"] / spec["low"]) > at_most:
        return Outcome(NOT_TESTABLE, f"{of} was not searched over more than {at_most:g} orders of magnitude.")
    fitted = _fitted(evidence, "test_score", [of])
    if isinstance(fitted, Outcome):
        return fitted
    marginal = fitted.marginal(of)
    values, mean, sd = (marginal[name].to_numpy(float) for name in (of, "mean", "sd"))
    limit = mean.min() + within * np.ptp(mean)
    widths = [_width(values, mean + shift * sd <= limit, int(mean.argmin())) for shift in (1, 0, -1)]
    text = f"{of} within {_percent(within)} of the best: {widths[1]:.1f} orders of magnitude ({widths[0]:.1f} to "
    text += f"{widths[2]:.1f} by one sd, n = {fitted.n})."
    if widths[0] >= at_least and widths[2] <= at_most:
        return Outcome(REPRODUCED, text)
    if widths[2] < at_least or widths[0] > at_most:
        return Outcome(CONTRADICTED, text)
    bound = at_least if widths[0] < at_least else at_most
    return Outcome(INCONCLUSIVE, text, _more_for(widths[1] - bound, (widths[2] - widths[0]) / 2, fitted.n, sure=1.0))


def reference(evidence: Evidence, score: float) -> Outcome:
    """A reported best score, shown beside the best of the study."""
    best = evidence.table["best_test_score"].min()
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
    table = evidence.table
    absent = [variant for variant in (BASELINE, *variants) if variant not in table.index]
    if absent:
        return Outcome(NOT_TESTABLE, f"The study has no variant {', '.join(absent)}.")
    width = margin * abs(float(table["best_mean"][BASELINE]))
    level = ALPHA / max(1, int((table["test"] == "tested").sum()))
    outcomes = []
    for variant in variants:
        row: Any = table.loc[variant]
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
    return _all_of(outcomes)


def _all_of(outcomes: Sequence[Outcome]) -> Outcome:
    """The verdict on all together: contradicted by one, otherwise as weak as the weakest."""
    order = (CONTRADICTED, NOT_TESTABLE, INCONCLUSIVE, REPRODUCED, REFERENCE)
    verdict = min((outcome.verdict for outcome in outcomes), key=order.index)
    known = [outcome.more for outcome in outcomes if outcome.verdict == INCONCLUSIVE]
    more = max(known) if known and not any(map(math.isnan, known)) else math.nan
    texts = [outcome.evidence for outcome in outcomes]
    if len({outcome.verdict for outcome in outcomes}) > 1:
        texts = [f"{outcome.evidence[:-1]}: {outcome.verdict}." for outcome in outcomes]
    return Outcome(verdict, " ".join(dict.fromkeys(texts)), more)


def _fitted(evidence: Evidence, score: fanova.Score, names: Sequence[str]) -> Any:
    """The functional ANOVA of vanilla, or the outcome that there is none to judge by."""
    importance = evidence.importance
    if BASELINE not in importance.variants:
        return Outcome(NOT_TESTABLE, f"The study has no variant {BASELINE}.")
    fitted = importance.fit(score, BASELINE)
    if fitted is None:
        return Outcome(INCONCLUSIVE, f"No functional ANOVA of {BASELINE}: {importance.missing[BASELINE]}.")
    absent = [name for name in names if name not in fitted.dimensions]
    if absent:
        return Outcome(NOT_TESTABLE, f"The study does not vary {', '.join(absent)}.")
    if not fitted.r2 > 0:
        text = f"The forest predicts {_words(score)} of unseen trials no better than their mean does"
        return Outcome(INCONCLUSIVE, f"{text} (out-of-bag R² {fitted.r2:.2f}, n = {fitted.n}).")
    return fitted


def _ends(evidence: Evidence, of: str, score: fanova.Score) -> Any:
    """n, the bounds of a setting, and (mean, sd) of its marginal at the lower bound, the middle and the upper bound."""
    fitted = _fitted(evidence, score, [of])
    if isinstance(fitted, Outcome):
        return fitted
    marginal = fitted.marginal(of).sort_values(of)
    values = pd.to_numeric(marginal[of], errors="coerce").to_numpy(float)
    if not np.isfinite(values).all():
        return Outcome(NOT_TESTABLE, f"{of} is not a number in this study.")
    middle = int(np.abs(values - (values[0] + values[-1]) / 2).argmin())
    points = [tuple(marginal[["mean", "sd"]].iloc[at]) for at in (0, middle, -1)]
    return fitted.n, (values[0], values[-1]), *points


def _sign(text: str, difference: float, sd: float, n: int) -> Outcome:
    """Reproduced if `difference` is surely above 0, contradicted if surely below."""
    if not math.isfinite(difference):
        return Outcome(INCONCLUSIVE, f"{text}.")
    if abs(difference) > SURE * sd:
        return Outcome(REPRODUCED if difference > 0 else CONTRADICTED, f"{text}.")
    return Outcome(INCONCLUSIVE, f"{text}.", _more_for(difference, sd, n))


def _more_for(difference: float, sd: float, n: int, sure: float = SURE) -> float:
    """Further trials after which `sd`, falling with the root of n, is small enough for `difference`."""
    return max(1.0, n * ((sure * sd / difference) ** 2 - 1)) if difference else math.inf


def _width(values: np.ndarray, good: np.ndarray, best: int) -> float:
    """Orders of magnitude of the run of `good` values around the best; 0 if that is not good."""
    if not good[best]:
        return 0.0
    bad = np.flatnonzero(~good)
    low = bad[bad < best].max(initial=-1) + 1
    high = bad[bad > best].min(initial=len(values)) - 1
    return float(np.log10(values[high] / values[low]))


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %" if 100 * x < 10 else f"{100 * x:.0f} %"


def _words(score: str) -> str:
    return {"test_score": "the test score", "train_seconds": "the training time"}[score]


Check = tuple[Callable[[Any], bool], str]  # whether a value is legal, and what is
_NAMES: Check = (lambda x: isinstance(x, list) and bool(x) and all(isinstance(i, str) for i in x), "a list of names")
_NAME: Check = (lambda x: isinstance(x, str) and bool(x), "a name")
_SETTINGS: Check = (lambda x: _NAME[0](x) or _NAMES[0](x), "the name of a setting, or a list of them")
_SCORE: Check = (lambda x: x in SCORES, " or ".join(SCORES))
_NUMBER: Check = (lambda x: isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x), "a number")
_FRACTION: Check = (lambda x: _NUMBER[0](x) and 0 < x < 1, "a number between 0 and 1")
_PLACE: Check = (lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= 1, "a whole number of at least 1")
_DIRECTION: Check = (lambda x: x in ("rising", "falling"), "rising or falling")


@dataclass(frozen=True)
class _Kind:
    judge: Callable[..., Outcome]
    parameters: Mapping[str, Check]
    optional: tuple[str, ...] = ()


_TESTS = {
    "worse": _Kind(worse, {"variants": _NAMES, "margin": _FRACTION}),
    "no_difference": _Kind(no_difference, {"variants": _NAMES, "margin": _FRACTION}),
    "none_better": _Kind(none_better, {"margin": _FRACTION}),
    "share": _Kind(
        share, {"of": _SETTINGS, "score": _SCORE, "above": _FRACTION, "below": _FRACTION}, optional=("above", "below")
    ),
    "rank": _Kind(rank, {"of": _NAME, "score": _SCORE, "place": _PLACE}),
    "trend": _Kind(trend, {"of": _NAME, "score": _SCORE, "direction": _DIRECTION}),
    "diminishing": _Kind(diminishing, {"of": _NAME, "score": _SCORE}),
    "basin": _Kind(basin, {"of": _NAME, "within": _FRACTION, "at_least": _NUMBER, "at_most": _NUMBER}),
    "reference": _Kind(reference, {"score": _NUMBER}),
}


def _parse_test(path: str | Path, key: str, entry: Any) -> NamedTest:
    _expect(isinstance(entry, dict), path, key, entry, "test, tasks and parameters")
    name = entry.get("test")
    _expect(isinstance(name, str) and name in _TESTS, path, f"{key}.test", name, f"one of {', '.join(_TESTS)}")
    kind = _TESTS[name]
    required = [parameter for parameter in kind.parameters if parameter not in kind.optional]
    _expect_keys(path, key, entry, ("test", "tasks", *kind.parameters), ("tasks", *required))
    _expect(_NAMES[0](entry["tasks"]), path, f"{key}.tasks", entry["tasks"], _NAMES[1])
    parameters = {parameter: value for parameter, value in entry.items() if parameter not in ("test", "tasks")}
    for parameter, value in parameters.items():
        legal, expected = kind.parameters[parameter]
        _expect(legal(value), path, f"{key}.{parameter}", value, expected)
    if kind.optional:
        given = [parameter for parameter in kind.optional if parameter in parameters]
        _expect(len(given) == 1, path, key, ", ".join(given) or "neither", f"one of {' and '.join(kind.optional)}")
    return NamedTest(name, tuple(entry["tasks"]), parameters)


def _expect_keys(path: str | Path, key: str, entry: Any, legal: Sequence[str], required: Sequence[str]) -> None:
    _expect(isinstance(entry, dict), path, key, entry, f"keys {', '.join(required)}")
    for name in entry:
        _expect(name in legal, path, f"{key}.{name}", entry[name], f"keys among {', '.join(legal)}")
    for name in required:
        _expect(name in entry, path, f"{key}.{name}", "(absent)", f"the keys {', '.join(required)}")


def _expect(condition: bool, path: str | Path, key: str, value: object, expected: str) -> None:
    text = " ".join(str(value).split())
    expect(condition, f"findings={path}: {key}", text if len(text) <= 60 else text[:60] + "...", expected)
