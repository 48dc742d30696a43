"""The numbers that figures draw, as frames: what is drawn is what is in these frames."""

import pandas as pd

from analysis import stats
from analysis.compare import Select, best_trials, parts, scored, selecting, upper_limit, variants_of

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
    best = best_trials(frame, select)
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
        seconds = stats.mean(own.loc[own["status"].isin(["finished", "diverged"]), "train_seconds"])
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


def best_curves(trials: pd.DataFrame, curves: pd.DataFrame, select: Select = "valid") -> pd.DataFrame:
    """Learning curves of the best 10 % of trials of one study and task.

    Args:
        trials: of one study and task.
        curves: as of `analysis.load_curves`.
        select: the score that picks the best.

    Returns:
        One row a trial and epoch: variant, trial, place (1 for the best of the variant), best_epoch, epoch,
        train_loss, valid_score.
    """
    best = trials[best_trials(trials, select)].copy()
    by = best.groupby("variant", observed=True)[f"{select}_score"]
    best["place"] = by.rank(method="first").astype("int64")
    keys = ["study", "task", "variant", "trial"]
    drawn = (
        best[[*keys, "place", "best_epoch"]]
        .astype({"trial": "int64"})
        .merge(curves.astype({"task": best["task"].dtype, "variant": best["variant"].dtype}), on=keys)
    )
    drawn = drawn.sort_values(["variant", "place", "epoch"], ignore_index=True)
    return drawn[["variant", "trial", "place", "best_epoch", "epoch", "train_loss", "valid_score"]]


def axis_end(scores: pd.Series) -> float:
    """Upper end of an axis: the highest score, or the highest that is not above `compare.upper_limit`, if to leave out
    those above it at least halves the axis; NaN without data."""
    end = float(scores[scores <= upper_limit(scores)].max())
    low, high = float(scores.min()), float(scores.max())
    return end if end - low <= (high - low) / 2 else high
