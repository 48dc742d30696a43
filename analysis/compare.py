"""Variants compared with a baseline, and studies with each other: frames of trials to frames of statistics."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis import stats
from analysis.load import SETTINGS
from search.errors import expect

Select = Literal["valid", "test"]
Adjust = Literal["bonferroni", "holm"]
ADJUSTMENTS = {"bonferroni": stats.bonferroni, "holm": stats.holm}
BASELINE = "vanilla"
FRACTION = 0.1
ALPHA = 0.05


def compare(frame: pd.DataFrame, select: Select = "valid", adjust: Adjust = "bonferroni") -> pd.DataFrame:
    """The test scores of each variant's best 10 % of trials against vanilla's (PROTOCOL section 5.1).

    The best 10 % are picked by validation score, or by test score (as in the paper, which leaks), of the trials that
    ended: a diverged trial counts among the rest. See `stats.best_fraction` for how many that is. All intervals are
    of 95 %.

    Args:
        frame: as of `analysis.load`.
        select: the score that picks the best trials.
        adjust: how p is adjusted for the number of tests made on a task: ``bonferroni``, as in the paper, or ``holm``.

    Returns:
        One row a study, task and variant, in planned order, with the columns

        ===================== ==============================================================================
        study, task, variant, select, adjust
        n_planned             trials; each is counted in one of the next four
        n_finished, n_diverged, n_failed
        n_unfinished          waiting or running
        n_best                trials in the best 10 %
        best_test_score       test score of the trial picked first
        best_mean, best_sd    of the test scores of the best 10 %
        rank                  by best_mean among the variants, 1 is the lowest
        p_first               how often it is the lowest when the trials are resampled (bootstrap)
        difference            best_mean less that of vanilla; above 0 is worse
        difference_low, difference_high
                              its interval (Welch)
        g, g_low, g_high      Hedges' g, with a bootstrap interval from n_best = 5 on
        improvement, improvement_low, improvement_high
                              probability that one of the best 10 % is better than one of vanilla's
        p                     two-sided Welch t-test against vanilla; NaN if not tested
        p_adjusted            for the tests made on that task
        p_mann_whitney        two-sided Mann-Whitney test, not adjusted: a check without normality
        significant           p_adjusted < 0.05
        test                  baseline, tested, or why not tested
        best_n_parameters     mean over the best 10 %
        best_train_seconds    mean over the best 10 %
        train_seconds         mean over the finished trials
        trial, hidden_size, lr, momentum, input_noise, ...
                              of the trial picked first
        ===================== ==============================================================================

    Raises:
        UserError: for another `select` or `adjust`.
    """
    expect(select in ("valid", "test"), "select", select, "valid or test")
    expect(adjust in ADJUSTMENTS, "adjust", adjust, f"one of {', '.join(ADJUSTMENTS)}")
    best = best_trials(frame, select)
    tables = [_compare_task(trials, best[trials.index], select, adjust) for _, trials in parts(frame)]
    return pd.concat(tables, ignore_index=True).astype({name: frame[name].dtype for name in ("task", "variant")})


def compare_studies(frame: pd.DataFrame, select: Select = "valid") -> pd.DataFrame:
    """The best 10 % of each variant in a study against the same variant in the first study that has it.

    Returns:
        One row a task, variant and further study: task, variant, study, against (a study), select, n_best, n_against,
        best_mean, against_mean, difference, difference_low, difference_high, g, p, p_adjusted (Bonferroni, for the
        tests made on a task), significant. Empty if no variant and task is in two studies.
    """
    best = frame[best_trials(frame, select)]
    rows: list[dict[str, Any]] = []
    for (task, variant), trials in frame.groupby(["task", "variant"], observed=True):
        first, *others = dict.fromkeys(trials["study"])
        picked = best[(best["task"] == task) & (best["variant"] == variant)]
        against = picked.loc[picked["study"] == first, "test_score"]
        for study in others:
            scores = picked.loc[picked["study"] == study, "test_score"]
            row = {"task": task, "variant": variant, "study": study, "against": first, "select": select}
            row |= {"n_best": len(scores), "n_against": len(against)}
            row |= {"best_mean": stats.mean(scores), "against_mean": stats.mean(against)}
            rows.append(row | _difference(scores, against) | {"p": stats.welch(scores, against)})
    columns = ["task", "variant", "study", "against", "select", "n_best", "n_against", "best_mean", "against_mean"]
    columns += ["difference", "difference_low", "difference_high", "g", "g_low", "g_high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_adjusted"] = table.groupby("task", observed=True)["p"].transform(lambda p: stats.bonferroni(p))
    table["significant"] = table["p_adjusted"] < ALPHA
    return table


def parts(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """((study, task), its trials) for each task of each study, in the order of `frame`."""
    for (study, task), trials in frame.groupby(["study", "task"], observed=True, sort=False):
        yield (str(study), str(task)), trials


def best_trials(frame: pd.DataFrame, select: Select = "valid") -> pd.Series:
    """Whether each trial is among the best 10 % of its study, task and variant, with the index of `frame`."""
    scores = selecting(frame, select)
    best = pd.Series(False, index=frame.index)
    for _, group in scores.groupby([frame["study"], frame["task"], frame["variant"]], observed=True):
        best[group.index[stats.best_fraction(group, FRACTION)]] = True
    return best


def selecting(frame: pd.DataFrame, select: Select) -> pd.Series:
    """The scores that pick the best: infinite for a diverged trial, NaN for one that failed or has not ended."""
    scores = frame[f"{select}_score"].where(scored(frame))
    return scores.where(frame["status"] != "diverged", np.inf)


def scored(frame: pd.DataFrame) -> pd.Series:
    """Whether each trial finished with finite scores."""
    return (frame["status"] == "finished") & np.isfinite(frame["valid_score"]) & np.isfinite(frame["test_score"])


def variants_of(trials: pd.DataFrame) -> list[str]:
    """The variants present, in planned order."""
    present = set(trials["variant"])
    return [variant for variant in trials["variant"].cat.categories if variant in present]


def sampled(frame: pd.DataFrame) -> list[str]:
    """Columns of the sampled settings: the four of every study, and what else one of them sampled."""
    columns = list(frame.columns.astype(str))
    return [*SETTINGS, *columns[columns.index(SETTINGS[-1]) + 1 : columns.index("seed")]]


def upper_limit(scores: pd.Series) -> float:
    """A limit to scores that a few far worse trials do not move: NaN without data.

    It is the highest score, or Tukey's far-out fence, q3 + 3 (q3 - q1) over all variants, if that is below.
    """
    summary = stats.box(scores)
    return min(summary["high"], summary["q3"] + 3 * (summary["q3"] - summary["q1"]))


def _compare_task(trials: pd.DataFrame, best: pd.Series, select: Select, adjust: Adjust) -> pd.DataFrame:
    variants = variants_of(trials)
    samples = {
        v: trials[best & (trials["variant"] == v)].sort_values(f"{select}_score", kind="stable") for v in variants
    }
    scores = {variant: sample["test_score"].to_numpy() for variant, sample in samples.items()}
    baseline = scores.get(BASELINE, np.empty(0))
    p = {v: float("nan") if v == BASELINE else stats.welch(scores[v], baseline) for v in variants}
    adjusted = dict(zip(p, ADJUSTMENTS[adjust](list(p.values())), strict=True))
    ranks = pd.Series({v: stats.mean(s) for v, s in scores.items()}).rank(method="min")
    select_by = selecting(trials, select)
    resampled = [
        stats.resampled_best(select_by[own], trials.loc[own, "test_score"], FRACTION, seed=place)
        for place, own in enumerate(trials["variant"] == variant for variant in variants)
    ]
    first = stats.rank_probabilities(np.column_stack(resampled))[:, 0]

    rows = []
    for place, (variant, sample) in enumerate(samples.items()):
        status = trials.loc[trials["variant"] == variant, "status"]
        finished = trials.loc[status.index[status == "finished"]]
        other = np.empty(0) if variant == BASELINE else baseline
        improvement = stats.probability_of_improvement(scores[variant], other)
        rows.append(
            {
                "study": trials["study"].iloc[0],
                "task": trials["task"].iloc[0],
                "variant": variant,
                "select": select,
                "adjust": adjust,
                "n_planned": len(status),
                "n_finished": int((status == "finished").sum()),
                "n_diverged": int((status == "diverged").sum()),
                "n_failed": int((status == "failed").sum()),
                "n_unfinished": int(status.isin(["waiting", "running"]).sum()),
                "n_best": len(sample),
                "best_test_score": scores[variant][0] if len(sample) else float("nan"),
                "best_mean": stats.mean(scores[variant]),
                "best_sd": stats.sd(scores[variant]),
                "rank": ranks[variant],
                "p_first": first[place],
                **_difference(scores[variant], baseline),
                "improvement": improvement.estimate,
                "improvement_low": improvement.low,
                "improvement_high": improvement.high,
                "p": p[variant],
                "p_adjusted": adjusted[variant],
                "p_mann_whitney": stats.mann_whitney(scores[variant], other),
                "significant": bool(adjusted[variant] < ALPHA),
                "test": _test(variant, p[variant], scores[variant], scores.get(BASELINE)),
                "best_n_parameters": stats.mean(sample["n_parameters"].astype("float64")),
                "best_train_seconds": stats.mean(sample["train_seconds"]),
                "train_seconds": stats.mean(finished["train_seconds"]),
                **{name: sample[name].iloc[0] if len(sample) else None for name in ("trial", *sampled(trials))},
            }
        )
    types = {"rank": "Int64", "trial": "Int64", "hidden_size": "Int64"} | dict.fromkeys(SETTINGS[1:], "float64")
    table = pd.DataFrame(rows)
    baseline_row = table["variant"] == BASELINE
    table.loc[baseline_row, ["difference_low", "difference_high", "g", "g_low", "g_high"]] = float("nan")
    return table.astype(types)


def _difference(scores: Any, baseline: Any) -> dict[str, float]:
    difference, g = stats.mean_difference(scores, baseline), stats.hedges_g(scores, baseline)
    return {
        "difference": difference.estimate,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "g": g.estimate,
        "g_low": g.low,
        "g_high": g.high,
    }


def _test(variant: str, p: float, scores: np.ndarray, baseline: np.ndarray | None) -> str:
    if variant == BASELINE:
        return "baseline"
    if baseline is None:
        return f"not tested: no {BASELINE}"
    if min(len(scores), len(baseline)) < 2:
        return "not tested: n < 2"
    return "not tested: no spread" if np.isnan(p) else "tested"
