"""Variants compared with a baseline: frames of trials to frames of statistics."""

from typing import Literal

import numpy as np
import pandas as pd

from analysis import stats
from search.errors import expect

Select = Literal["valid", "test"]
BASELINE = "vanilla"
FRACTION = 0.1
ALPHA = 0.05
SETTINGS = ("trial", "hidden_size", "lr", "momentum", "input_noise")


def compare(frame: pd.DataFrame, select: Select = "valid") -> pd.DataFrame:
    """The test scores of each variant's best 10 % of trials against vanilla's (PROTOCOL section 5.1).

    The best 10 % are picked by validation score, or by test score (as in the paper, which leaks), of the trials that
    ended: a diverged trial counts among the rest. See `stats.best_fraction` for how many that is.

    Args:
        frame: as of `analysis.load`.
        select: the score that picks the best trials.

    Returns:
        One row a task and variant, in planned order, with the columns

        ===================== ==============================================================================
        task, variant, select
        n_planned             trials; each is counted in one of the next four
        n_finished, n_diverged, n_failed
        n_unfinished          waiting or running
        n_best                trials in the best 10 %
        best_test_score       test score of the trial picked first
        best_mean, best_sd    of the test scores of the best 10 %
        difference            best_mean less that of vanilla; above 0 is worse
        p                     two-sided Welch t-test against vanilla; NaN if not tested
        p_adjusted            Bonferroni, for the tests made on that task
        significant           p_adjusted < 0.05
        test                  baseline, tested, or why not tested
        best_n_parameters     mean over the best 10 %
        train_seconds         mean over the finished trials
        trial, hidden_size, lr, momentum, input_noise
                              of the trial picked first
        ===================== ==============================================================================

    Raises:
        UserError: for another `select`.
    """
    expect(select in ("valid", "test"), "select", select, "valid or test")
    best = best_trials(frame, select)
    tables = [_compare_task(trials, best[trials.index], select) for _, trials in frame.groupby("task", observed=True)]
    return pd.concat(tables, ignore_index=True).astype({name: frame[name].dtype for name in ("task", "variant")})


def boxes(frame: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of the box plots: what is drawn is what is in this frame.

    Args:
        frame: as of `analysis.load`.
        table: as of `compare`, whose `select` and significances hold here too.

    Returns:
        One row a task, panel (``all``, ``best``) and variant: n, low, q1, median, q3, high, mean of the test scores,
        n_parameters (mean over the best 10 %), significant, limit (upper end of the panel's axis), n_beyond (scores
        above it), select.
    """
    select = table["select"].iloc[0]
    best = best_trials(frame, select)
    scored = _scored(frame)
    significant = table.set_index(["task", "variant"])["significant"]
    rows = []
    for task, trials in frame.groupby("task", observed=True):
        for panel, chosen in (("all", scored), ("best", best)):
            drawn = trials[chosen[trials.index]]
            scores = {variant: drawn.loc[drawn["variant"] == variant, "test_score"] for variant in _variants(trials)}
            summaries = {variant: stats.box(values) for variant, values in scores.items()}
            limit = upper_limit(drawn["test_score"])
            for variant, summary in summaries.items():
                picked = trials[best[trials.index] & (trials["variant"] == variant)]
                rows.append(
                    {"task": task, "panel": panel, "variant": variant}
                    | summary
                    | {
                        "n_parameters": stats.mean(picked["n_parameters"].astype(float)),
                        "significant": significant[task, variant],
                        "limit": limit,
                        "n_beyond": int((scores[variant] > limit).sum()),
                        "select": select,
                    }
                )
    return pd.DataFrame(rows)


def best_trials(frame: pd.DataFrame, select: Select = "valid") -> pd.Series:
    """Whether each trial is among the best 10 % of its task and variant, with the index of `frame`."""
    scores = frame[f"{select}_score"].where(_scored(frame))
    scores = scores.where(frame["status"] != "diverged", np.inf)
    best = pd.Series(False, index=frame.index)
    for _, group in scores.groupby([frame["task"], frame["variant"]], observed=True):
        best[group.index[stats.best_fraction(group, FRACTION)]] = True
    return best


def upper_limit(scores: pd.Series) -> float:
    """Upper end of an axis that a few far worse trials do not squeeze: NaN without data.

    It is the highest score, or Tukey's far-out fence, q3 + 3 (q3 - q1) over all variants, if that is below.
    """
    summary = stats.box(scores)
    return min(summary["high"], summary["q3"] + 3 * (summary["q3"] - summary["q1"]))


def _compare_task(trials: pd.DataFrame, best: pd.Series, select: Select) -> pd.DataFrame:
    variants = _variants(trials)
    samples = {
        v: trials[best & (trials["variant"] == v)].sort_values(f"{select}_score", kind="stable") for v in variants
    }
    scores = {variant: sample["test_score"].to_numpy() for variant, sample in samples.items()}
    baseline = scores.get(BASELINE, np.empty(0))
    p = {v: float("nan") if v == BASELINE else stats.welch(scores[v], baseline) for v in variants}
    adjusted = dict(zip(p, stats.bonferroni(list(p.values())), strict=True))

    rows = []
    for variant, sample in samples.items():
        status = trials.loc[trials["variant"] == variant, "status"]
        rows.append(
            {
                "task": trials["task"].iloc[0],
                "variant": variant,
                "select": select,
                "n_planned": len(status),
                "n_finished": int((status == "finished").sum()),
                "n_diverged": int((status == "diverged").sum()),
                "n_failed": int((status == "failed").sum()),
                "n_unfinished": int(status.isin(["waiting", "running"]).sum()),
                "n_best": len(sample),
                "best_test_score": scores[variant][0] if len(sample) else float("nan"),
                "best_mean": stats.mean(scores[variant]),
                "best_sd": stats.sd(scores[variant]),
                "difference": stats.mean(scores[variant]) - stats.mean(baseline),
                "p": p[variant],
                "p_adjusted": adjusted[variant],
                "significant": bool(adjusted[variant] < ALPHA),
                "test": _test(variant, p[variant], scores[variant], scores.get(BASELINE)),
                "best_n_parameters": stats.mean(sample["n_parameters"].astype("float64")),
                "train_seconds": stats.mean(trials.loc[status.index[status == "finished"], "train_seconds"]),
                **{name: sample[name].iloc[0] if len(sample) else None for name in SETTINGS},
            }
        )
    return pd.DataFrame(rows).astype(
        {"trial": "Int64", "hidden_size": "Int64"} | dict.fromkeys(SETTINGS[2:], "float64")
    )


def _test(variant: str, p: float, scores: np.ndarray, baseline: np.ndarray | None) -> str:
    if variant == BASELINE:
        return "baseline"
    if baseline is None:
        return f"not tested: no {BASELINE}"
    if min(len(scores), len(baseline)) < 2:
        return "not tested: n < 2"
    return "not tested: no spread" if np.isnan(p) else "tested"


def _scored(frame: pd.DataFrame) -> pd.Series:
    return (frame["status"] == "finished") & np.isfinite(frame["valid_score"]) & np.isfinite(frame["test_score"])


def _variants(trials: pd.DataFrame) -> list[str]:
    present = set(trials["variant"])
    return [variant for variant in trials["variant"].cat.categories if variant in present]
