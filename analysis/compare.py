"""Variants compared with a baseline, and studies with each other: frames of trials to frames of statistics."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import best_fraction, stats
from analysis.best_fraction import Best, Estimate
from analysis.frames import BASELINE, FRACTION, Select, is_paired, parts, records, selecting, variants_of
from analysis.load import sampled
from analysis.ranking import ranks
from analysis.stats import ALPHA
from search.errors import expect

Adjust = Literal["bonferroni", "holm"]
ADJUSTMENTS = {"bonferroni": stats.bonferroni, "holm": stats.holm}
CONTRAST = ("difference", "difference_se", "difference_df", "n_compared")
COLUMNS = (
    *(
        "study",
        "task",
        "variant",
        "select",
        "adjust",
        "baseline",
        "fraction",
        "n_planned",
        "n_finished",
        "n_diverged",
        "n_failed",
    ),
    *("n_unfinished", "divergence", "divergence_low", "divergence_high", "p_divergence", "n_best", "best_test_score"),
    *("best_mean", "best_sd", "best_se", "rank", "rank_low", "rank_high", "p_first", "design", "n_compared"),
    *("difference", "difference_low", "difference_high", "difference_se", "difference_df", "equivalent_within"),
    *("effect_size", "effect_size_low", "effect_size_high", "improvement", "improvement_low", "improvement_high"),
    *("p", "p_adjusted", "significant", "test", "more_trials", "p_as_paper", "best_n_parameters"),
    *("best_train_seconds", "train_seconds", "trial"),
)


def compare(
    frame: pd.DataFrame,
    select: Select = "valid",
    adjust: Adjust = "bonferroni",
    baseline: str = BASELINE,
    fraction: float = FRACTION,
) -> pd.DataFrame:
    """The test scores of each variant's best 10 % of trials against vanilla's (docs/protocol.md, 5.1).

    The best 10 % are picked by validation score, or by test score (as in the paper, which leaks), of the trials that
    ended: a diverged trial counts among the rest. See `stats.best_fraction` for how many that is. The errors are those
    of `analysis.best_fraction`, which count that the best were picked; all intervals are of 95 %.

    Where draws are paired (every trial of one number has the same settings and seed, in every variant that has them),
    a variant is compared with vanilla over the trials that ended in both, diverged ones included: a trial whose
    partner failed or has not ended is left out of the difference, though not of `best_mean`. Below 45 trials, whose
    best 10 % are five, nothing is tested.

    Args:
        frame: as of `analysis.load`.
        select: the score that picks the best trials.
        adjust: how p is adjusted for the number of tests made on a task: ``bonferroni``, as in the paper, or ``holm``.
        baseline: the variant that takes vanilla's place.
        fraction: the share of the trials, in (0, 1], that takes the place of 10 %.

    Returns:
        One row a study, task and variant, in planned order, with the columns

        ===================== ==============================================================================
        study, task, variant, select, adjust, baseline, fraction
        n_planned             trials; each is counted in one of the next four
        n_finished, n_diverged, n_failed
        n_unfinished          waiting or running
        divergence            share of the ended trials that diverged
        divergence_low, divergence_high
                              its interval (Wilson)
        p_divergence          of it being that of vanilla, adjusted; exact: McNemar of pairs, otherwise Fisher
        n_best                trials in the best 10 %
        best_test_score       test score of the trial picked first
        best_mean, best_sd    of the test scores of the best 10 %
        best_se               standard error of best_mean, as an estimate of what the search finds
        rank                  by best_mean among the variants, 1 is the lowest
        rank_low, rank_high   the ranks that tests of all pairs of variants leave open (Holm, 5 %)
        p_first               how probable it is that the true mean is the lowest of all; NaN below
                              `best_fraction.MIN_FIRST` best
        design                paired or unpaired
        n_compared            pairs; of an unpaired design the ended trials of the variant that has fewer
        difference            mean of the best 10 % less that of vanilla; above 0 is worse
        difference_low, difference_high
                              its interval
        difference_se, difference_df
                              its standard error and degrees of freedom
        equivalent_within     the smallest margin within which it is shown to be (two one-sided tests at 5 %)
        effect_size, effect_size_low, effect_size_high
                              the difference over the pooled standard deviation of the best 10 % (Hedges' g)
        improvement, improvement_low, improvement_high
                              probability that one of the best 10 % is better than one of vanilla's
        p                     two-sided, of a difference of 0; NaN if not tested
        p_adjusted            for the tests made on that task
        significant           p_adjusted < 0.05
        test                  baseline, tested, or why not tested
        more_trials           of each variant, until the difference as observed would be significant with a power of
                              80 %, or, if not tested, until it can be; NaN if significant or unknown
        p_as_paper            two-sided Welch t-test that takes the best 10 % for independent draws, Bonferroni: for
                              comparison with the paper only. With nine equal variants and 200 unpaired trials a third
                              of studies has one below 0.05 (docs/calibration.md)
        best_n_parameters     mean over the best 10 %
        best_train_seconds    mean over the best 10 %
        train_seconds         mean over the finished trials
        trial, hidden_size, lr, momentum, input_noise, ...
                              of the trial picked first
        ===================== ==============================================================================

    Raises:
        UserError: for another `select` or `adjust`, or a fraction out of bounds.
    """
    expect(select in ("valid", "test"), "select", select, "valid or test")
    expect(adjust in ADJUSTMENTS, "adjust", adjust, f"one of {', '.join(ADJUSTMENTS)}")
    expect(0 < fraction <= 1, "fraction", fraction, "a number above 0, at most 1")
    tables = [Searches.of(trials, select, fraction).against(baseline, adjust) for _, trials in parts(frame)]
    return pd.concat(tables, ignore_index=True)


def pairwise(
    trials: pd.DataFrame, variants: Sequence[str], select: Select = "valid"
) -> dict[tuple[str, str], Estimate]:
    """The mean of the best 10 % of each of these variants less that of each later one, by (variant, later variant).

    Args:
        trials: of one study and task.
        variants: of `trials`.
        select: as of `compare`.
    """
    searches = [_Search.of(trials[trials["variant"] == variant], select, FRACTION) for variant in variants]
    found = _differences(searches, is_paired(trials))
    return dict(zip(combinations(variants, 2), found, strict=True))


def compare_studies(frame: pd.DataFrame, select: Select = "valid") -> pd.DataFrame:
    """The best 10 % of each variant in a study against the same variant in the first study that has it.

    Tests and columns are those of `compare`, with that study in place of vanilla.

    Returns:
        One row a task, variant and further study: task, variant, study, against (a study), select, n_best, n_against,
        best_mean, against_mean, design, n_compared, difference, difference_low, difference_high, effect_size,
        effect_size_low, effect_size_high, p, p_adjusted (Bonferroni, for the tests made on a task), significant.
        Empty if no variant and task is in two studies.
    """
    rows: list[dict[str, Any]] = []
    for (task, variant), trials in frame.groupby(["task", "variant"], observed=True):
        first, *others = dict.fromkeys(trials["study"])
        against = _Search.of(trials[trials["study"] == first], select)
        for study in others:
            found = _Search.of(trials[trials["study"] == study], select)
            paired = is_paired(trials[trials["study"].isin([first, study])])
            row = {"task": task, "variant": variant, "study": study, "against": first, "select": select}
            row |= {"n_best": len(found.best.picked), "n_against": len(against.best.picked)}
            row |= {"best_mean": best_fraction.mean(found.best).value}
            row |= {"against_mean": best_fraction.mean(against.best).value}
            rows.append(row | _contrast(found, against, paired))
    columns = ["task", "variant", "study", "against", "select", "n_best", "n_against", "best_mean", "against_mean"]
    columns += ["design", "n_compared", "difference", "difference_low", "difference_high"]
    columns += ["effect_size", "effect_size_low", "effect_size_high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_adjusted"] = table.groupby("task", observed=True)["p"].transform(lambda p: stats.bonferroni(p))
    table["significant"] = table["p_adjusted"] < ALPHA
    return table


@dataclass(frozen=True)
class _Search:
    """The trials of a variant that ended, by rising number, and the scores that pick the best of them."""

    numbers: NDArray[np.intp]
    select: stats.Floats
    report: stats.Floats
    fraction: float = FRACTION

    @staticmethod
    def of(trials: pd.DataFrame, select: Select, fraction: float = FRACTION) -> "_Search":
        by = selecting(trials, select)
        ended = trials[by.notna()].sort_values("trial")
        numbers = ended["trial"].to_numpy(np.intp)
        return _Search(numbers, by[ended.index].to_numpy(float), ended["test_score"].to_numpy(float), fraction)

    @cached_property
    def best(self) -> Best:
        return best_fraction.best(self.select, self.report, self.fraction)

    @property
    def diverged(self) -> NDArray[np.bool_]:
        return np.isinf(self.select)

    def with_partner(self, other: "_Search") -> "_Search":
        """Only the trials whose number `other` has too."""
        chosen = np.isin(self.numbers, other.numbers)
        if chosen.all():
            return self
        return _Search(self.numbers[chosen], self.select[chosen], self.report[chosen], self.fraction)


NONE = _Search(np.empty(0, np.intp), np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Searches:
    """The trials of one task of one study, with what of a comparison does not depend on the baseline: of each variant
    its search, the columns of `compare` that are about it alone, and those of its rank."""

    trials: pd.DataFrame
    select: Select
    fraction: float
    paired: bool
    own: "dict[str, _Search]"
    described: list[dict[str, Any]]
    _held: "dict[str, pd.DataFrame]" = field(default_factory=dict)

    @staticmethod
    def of(trials: pd.DataFrame, select: Select, fraction: float) -> "Searches":
        """From the trials of one task of one study."""
        paired = is_paired(trials)
        by_variant = {variant: trials[trials["variant"] == variant] for variant in variants_of(trials)}
        own = {variant: _Search.of(of, select, fraction) for variant, of in by_variant.items()}
        described = [_described(by_variant[variant], search) for variant, search in own.items()]
        place = pd.Series([row["best_mean"] for row in described]).rank(method="min")
        low, high = ranks(len(own), _differences(list(own.values()), paired))
        apart = 0 if paired else 1 + int(trials["trial"].max())  # no two trials of an unpaired design belong together
        numbers = [search.numbers + place * apart for place, search in enumerate(own.values())]
        first = best_fraction.first_probabilities([search.best for search in own.values()], numbers)
        for row, *found in zip(described, place, low, high, first, strict=True):
            row |= dict(zip(("rank", "rank_low", "rank_high", "p_first"), found, strict=True))
        return Searches(trials, select, fraction, paired, own, described)

    def against(self, baseline: str, adjust: Adjust) -> pd.DataFrame:
        """The rows of `compare`."""
        if baseline not in self._held:
            self._held[baseline] = self._contrasts(baseline)
        table = self._held[baseline]
        adjusted = ADJUSTMENTS[adjust](table["p"])
        table = table.assign(
            adjust=adjust,
            p_divergence=ADJUSTMENTS[adjust](table["p_divergence"]),
            p_as_paper=stats.bonferroni(table["p_as_paper"]),
            p_adjusted=adjusted,
            significant=adjusted < ALPHA,
        )
        return table.assign(more_trials=_more_trials(table[[*CONTRAST, "test", "significant", "fraction"]]))

    def _contrasts(self, baseline: str) -> pd.DataFrame:
        """The rows of `compare`, in which the columns that depend on how p is adjusted are yet to be filled."""
        rows = []
        same = {name: self.trials[name].iloc[0] for name in ("study", "task")}
        same |= {"select": self.select, "baseline": baseline, "fraction": self.fraction}
        for (variant, own), described in zip(self.own.items(), self.described, strict=True):
            row = {**same, "variant": variant, **described}
            other = self.own.get(baseline) if variant != baseline else None
            row |= {"p_divergence": _p_divergence(own, other, self.paired)} | _contrast(own, other, self.paired)
            row["test"] = _test(other, row, baseline, self.fraction)
            rows.append(row | ({"difference": 0.0, "test": "baseline"} if variant == baseline else {}))
        settings = sampled(self.trials)
        table = pd.DataFrame(rows, columns=[*COLUMNS, *settings])
        types: dict[str, Any] = dict.fromkeys(("rank", "trial", "hidden_size"), "Int64")
        types |= {name: "float64" for name in settings if self.trials[name].dtype == "float64"}
        types |= {name: self.trials[name].dtype for name in ("task", "variant")}
        return table.assign(**{name: table[name].astype(dtype) for name, dtype in types.items()})


def _described(trials: pd.DataFrame, own: _Search) -> dict[str, Any]:
    """What a variant's trials are, compared with nothing."""
    status = trials["status"]
    finished = trials[status == "finished"]
    ended = trials.set_index("trial").loc[own.numbers]
    picked = ended.iloc[own.best.picked]
    mean = best_fraction.mean(own.best)
    first = picked.reset_index().iloc[0] if len(picked) else None
    return {
        "n_planned": len(status),
        **{f"n_{name}": int((status == name).sum()) for name in ("finished", "diverged", "failed")},
        "n_unfinished": int(status.isin(["waiting", "running"]).sum()),
        "n_best": len(picked),
        "best_test_score": stats.NAN if first is None else first["test_score"],
        "best_mean": mean.value,
        "best_sd": stats.sd(picked["test_score"]),
        "best_se": mean.error,
        "best_n_parameters": stats.mean(picked["n_parameters"].astype("float64")),
        "best_train_seconds": stats.mean(picked["train_seconds"]),
        "train_seconds": stats.mean(finished["train_seconds"]),
        **{name: None if first is None else first[name] for name in ("trial", *sampled(trials))},
        **_divergence(own),
    }


def _divergence(own: _Search) -> dict[str, float]:
    """The share of trials that diverged."""
    rate = stats.proportion(int(own.diverged.sum()), len(own.diverged))
    return {"divergence": rate.estimate, "divergence_low": rate.low, "divergence_high": rate.high}


def _p_divergence(own: _Search, against: _Search | None, paired: bool) -> float:
    """Of an exact test of the share of trials that diverged against another variant's, not adjusted."""
    if against is None or not len(own.numbers) or not len(against.numbers):
        return stats.NAN
    a, b = (own.with_partner(against), against.with_partner(own)) if paired else (own, against)
    return stats.same_rate(a.diverged, b.diverged, paired)


def _contrast(own: _Search, against: _Search | None, paired: bool) -> dict[str, Any]:
    """The best of a variant less those of another; without numbers if there is no other."""
    row: dict[str, Any] = {"design": "paired" if paired else "unpaired"}
    a, b = _sides(own, against or NONE, paired)
    difference = best_fraction.difference(a, b, paired)
    equivalent = max(difference.upper(ALPHA), -difference.lower(ALPHA))
    row |= {"n_compared": difference.n, "equivalent_within": equivalent, "p": difference.p}
    row |= {"difference_se": difference.error, "difference_df": difference.freedom}
    for name, interval in (
        ("difference", difference.interval()),
        ("effect_size", best_fraction.effect_size(a, b, paired)),
        ("improvement", best_fraction.probability_of_improvement(a, b, paired)),
    ):
        row |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
    row["p_as_paper"] = stats.welch(own.best.scores, against.best.scores) if against else stats.NAN
    return row


def _sides(a: _Search, b: _Search, paired: bool) -> tuple[Best, Best]:
    """The best of two searches, of paired ones over the trials that both have."""
    return (a.with_partner(b).best, b.with_partner(a).best) if paired else (a.best, b.best)


def _test(against: _Search | None, row: dict[str, Any], baseline: str, fraction: float) -> str:
    if against is None:
        return f"not tested: no {baseline}"
    needed = best_fraction.min_trials(fraction)
    if row["n_compared"] < needed:
        return f"not tested: needs {needed} trials"
    if np.isnan(row["difference_se"]):
        return "not tested: too few finished"
    return "tested" if row["difference_se"] > 0 else "not tested: no spread"


def contrast_of(row: Any) -> Estimate:
    """The difference from vanilla in a row of `compare`."""
    return Estimate(row["difference"], row["difference_se"], row["difference_df"], int(row["n_compared"]))


def _more_trials(table: pd.DataFrame) -> list[float]:
    alpha = alpha_of(table)
    needed = best_fraction.min_trials(table["fraction"].iloc[0])
    found = []
    for row in records(table):
        if row["test"] == "tested" and not row["significant"]:
            found.append(best_fraction.more_to_show(contrast_of(row), 0.0, alpha))
        else:
            few = row["test"] == f"not tested: needs {needed} trials"
            found.append(float(needed - row["n_compared"]) if few else stats.NAN)
    return found


def alpha_of(table: pd.DataFrame) -> float:
    """Of one side of each of the tests that were made, so that all of them together err in 5 % of studies."""
    return ALPHA / (2 * max(1, table["test"].tolist().count("tested")))


def _differences(searches: Sequence[_Search], paired: bool) -> list[Estimate]:
    """Of the first and the second of each pair, in the order of `itertools.combinations`."""
    pairs = [_sides(a, b, paired) for a, b in combinations(searches, 2)]
    return [best_fraction.difference(a, b, paired) for a, b in pairs]
