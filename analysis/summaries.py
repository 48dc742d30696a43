"""The numbers that figures draw, as frames: what is drawn is what is in these frames."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from analysis import best_fraction, stats
from analysis.compare import CONTRAST, alpha_of, contrast_of
from analysis.frames import (
    FRACTION,
    Select,
    best_trials,
    has_result,
    parts,
    records,
    scored,
    selecting,
    upper_limit,
    variants_of,
)

PANELS = ("all", "best")


def boxes(frame: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of the box plots.

    Args:
        frame: as of `analysis.load`.
        table: as of `compare`, whose `select` and significances hold here too.

    Returns:
        One row a study, task, panel (``all``, ``best``) and variant: n, low, q1, median, q3, high, mean of the test
        scores, n_parameters (mean over the best 10 %), significant, limit (upper end of the panel's axis), n_beyond
        (scores above it), select.
    """
    select = table["select"].iloc[0]
    best = best_trials(frame, select, table["fraction"].iloc[0])
    significant = table.set_index(["study", "task", "variant"])["significant"]
    rows = []
    for (study, task), trials in parts(frame):
        for panel, chosen in zip(PANELS, (scored(frame), best), strict=True):
            drawn = trials[chosen[trials.index]]
            limit = axis_end(drawn["test_score"])
            for variant in variants_of(trials):
                scores = drawn.loc[drawn["variant"] == variant, "test_score"]
                picked = trials[best[trials.index] & (trials["variant"] == variant)]
                rows.append(
                    {"study": study, "task": task, "panel": panel, "variant": variant}
                    | stats.box(scores)
                    | {
                        "n_parameters": stats.mean(picked["n_parameters"].astype(float)),
                        "significant": significant[study, task, variant],
                        "limit": limit,
                        "n_beyond": int((scores > limit).sum()),
                        "select": select,
                    }
                )
    return pd.DataFrame(rows)


def points(frame: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The trials whose scores the box plots of `boxes` sum up, one row a panel and trial: study, task, panel, variant,
    trial, test_score."""
    keys = ["study", "task", "panel", "variant", "trial", "test_score"]
    chosen = (scored(frame), best_trials(frame, table["select"].iloc[0]))
    drawn = [frame[rows].assign(panel=panel)[keys] for panel, rows in zip(PANELS, chosen, strict=True)]
    return pd.concat(drawn, ignore_index=True)


def expected_best(trials: pd.DataFrame, select: Select = "valid") -> pd.DataFrame:
    """Expected test score of the best of n trials, the best by `select` (`stats.expected_best`), with a 95 % band.

    Args:
        trials: of one study and task.
        select: the score that chooses the best of n.

    Returns:
        One row a variant and n: variant, n, seconds (n times the mean training time of a trial of the variant that
        ended, diverged or not), mean, low, high, limit (upper end of the axis).
    """
    frames = []
    for variant in variants_of(trials):
        own = trials[trials["variant"] == variant]
        curve = stats.expected_best(selecting(own, select), own["test_score"])
        drawn = pd.DataFrame(curve, columns=["n", "mean", "low", "high"]).astype({"n": "int64"})
        seconds = stats.mean(own.loc[has_result(own), "train_seconds"])
        drawn.insert(0, "variant", variant)
        drawn.insert(2, "seconds", drawn["n"] * seconds)
        frames.append(drawn)
    drawn = pd.concat(frames, ignore_index=True)
    end = axis_end(trials.loc[scored(trials), "test_score"])
    return drawn.assign(limit=drawn.loc[drawn["mean"] <= end, "mean"].max())


def trade_off(trials: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Test score against a cost, ``n_parameters`` or ``train_seconds``, of the finished trials of one study and task.

    Returns:
        One row a trial: variant, trial, cost (by its name), test_score, front (whether no other trial of any variant
        has a lower score at no higher cost), limit (upper end of the score axis).
    """
    drawn = trials.loc[scored(trials), ["variant", "trial", cost, "test_score"]].reset_index(drop=True)
    drawn[cost] = drawn[cost].astype("float64")
    drawn["front"] = False
    drawn.loc[stats.pareto_front(drawn[cost], drawn["test_score"]), "front"] = True
    drawn["limit"] = axis_end(drawn["test_score"])
    return drawn


def best_curves(
    trials: pd.DataFrame, curves: pd.DataFrame, select: Select = "valid", fraction: float = FRACTION
) -> pd.DataFrame:
    """Learning curves of the best 10 % of trials of one study and task.

    Args:
        trials: of one study and task.
        curves: as of `analysis.load_curves`.
        select: the score that picks the best.
        fraction: the share of the trials that takes the place of 10 %.

    Returns:
        One row a trial and epoch: variant, trial, place (1 for the best of the variant), best_epoch, epoch,
        train_loss, valid_score.
    """
    return ranked_curves(trials[best_trials(trials, select, fraction)], curves, select)


def ranked_curves(chosen: pd.DataFrame, curves: pd.DataFrame, select: Select = "valid") -> pd.DataFrame:
    """As `best_curves`, of these trials, whose places are by `select`; those without a score come last."""
    chosen = chosen.copy()
    by = chosen.groupby("variant", observed=True)[f"{select}_score"]
    chosen["place"] = by.rank(method="first", na_option="bottom").astype("int64")
    keys = ["study", "task", "variant", "trial"]
    drawn = (
        chosen[[*keys, "place", "best_epoch"]]
        .astype({"trial": "int64"})
        .merge(curves.astype({"task": chosen["task"].dtype, "variant": chosen["variant"].dtype}), on=keys)
    )
    drawn = drawn.sort_values(["variant", "place", "epoch"], ignore_index=True)
    return drawn[["variant", "trial", "place", "best_epoch", "epoch", "train_loss", "valid_score"]]


def power(table: pd.DataFrame, points: int = 16) -> pd.DataFrame:
    """The power of the test of each variant that was tested and does not differ significantly, by the trials it would
    be of: if the difference is as observed, from the trials there are up to what the most needs.

    Args:
        table: the rows of `compare` of one study and task.
        points: of each curve.

    Returns:
        One row a variant and number: variant, n (trials of each variant, or pairs), power.
    """
    rows = records(table[["variant", "test", "significant", "more_trials", *CONTRAST]])
    open_ = [row for row in rows if row["test"] == "tested" and not row["significant"]]
    alpha, drawn = alpha_of(table), []
    needed = [row["n_compared"] + row["more_trials"] for row in open_]
    most = max((n for n in needed if np.isfinite(n)), default=0.0)
    for row in open_:
        contrast = contrast_of(row)
        end = max(2.0 * contrast.n, most)
        for n in np.unique(np.geomspace(contrast.n, end, points).round()):
            drawn.append((row["variant"], int(n), best_fraction.expected_power(contrast, int(n), 0.0, alpha)))
    return pd.DataFrame(drawn, columns=["variant", "n", "power"])


def rank_stability(trials: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """How well the order of a variant's trials after each epoch foretells their final order.

    Spearman's correlation between the best validation score up to an epoch and the best of all epochs, over the trials
    that finished; a trial that has ended keeps its best. At the last epoch it is 1 by definition.

    Args:
        trials: of one study and task.
        curves: as of `analysis.load_curves`, of these trials.

    Returns:
        One row a variant with at least three trials, and epoch: variant, n (trials), epoch, correlation.
    """
    finished = trials.loc[scored(trials), ["variant", "trial"]].astype({"trial": "int64"})
    rows = []
    for variant in variants_of(trials):
        own = curves[curves["variant"] == variant]
        own = own[own["trial"].isin(finished.loc[finished["variant"] == variant, "trial"])]
        scores = own.pivot(index="epoch", columns="trial", values="valid_score").ffill().cummin()
        if scores.shape[1] < 3:
            continue
        ranked = rankdata(scores.to_numpy(), axis=1)
        centred = ranked - ranked.mean(axis=1, keepdims=True)
        spread = (centred**2).sum(axis=1) ** 0.5
        with np.errstate(invalid="ignore"):  # where all are equal
            found = centred @ centred[-1] / (spread * spread[-1])
        rows.append(
            pd.DataFrame({"variant": variant, "n": scores.shape[1], "epoch": scores.index, "correlation": found})
        )
    columns = ["variant", "n", "epoch", "correlation"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def axis_end(scores: pd.Series) -> float:
    """Upper end of an axis: the highest score, or the highest that is not above `frames.upper_limit`, if to leave out
    those above it at least halves the axis; NaN without data."""
    end = float(scores[scores <= upper_limit(scores)].max())
    low, high = float(scores.min()), float(scores.max())
    return end if end - low <= (high - low) / 2 else high
