"""What it would have cost to stop trials early, by their full curves: functions of frames. Lower scores are better.

Successive halving (Jamieson and Talwalkar 2016) goes on with the better half of the trials of a variant after some
epochs. A trial that would have been among the best 10 % and is in the other half is lost, and with it a part of what
the comparison of variants rests on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import stats
from analysis.frames import FRACTION, has_result, scored, variants_of

EPOCHS = (5, 10, 20, 40)
ONCE, IN_TURN = "once", "in turn"
COLUMNS = ("variant", "epoch", "how", "n", "n_best", "lost", "saved", "shift")


def halving(
    trials: pd.DataFrame, curves: pd.DataFrame, epochs: Sequence[int] = EPOCHS, fraction: float = FRACTION
) -> pd.DataFrame:
    """What stopping the worse half of each variant's trials would have lost and saved.

    The better half is that of the best validation scores up to the epoch, the larger one of an odd number; of equal
    ones that of the lower number. A trial that had diverged by then is worse than all others, one that had ended keeps
    its score. The best are those of the comparison, by the validation score in the end.

    Args:
        trials: of one study and task, as of `analysis.load`.
        curves: as of `analysis.load_curves`, of all these trials.
        epochs: after which trials would have been stopped, ascending.
        fraction: the share of the trials that are the best.

    Returns:
        One row a variant, epoch and way, ``once`` (at this epoch alone) or ``in turn`` (at all epochs up to it, each
        time half of what was left): variant, epoch, how, n (trials that ended), n_best, lost (share of the best that
        would have been stopped), saved (share of all epochs that would not have been trained), shift (mean test score
        of the best of those that go on less that of the best; above 0 is worse).
    """
    rows = []
    for variant in variants_of(trials):
        own = trials[(trials["variant"] == variant) & has_result(trials)].set_index("trial").sort_index()
        if not len(own):
            continue
        seen = curves[curves["variant"] == variant]
        rows += _of_variant(own, seen, epochs, fraction)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_variant(
    own: pd.DataFrame, curves: pd.DataFrame, epochs: Sequence[int], fraction: float
) -> list[tuple[Any, ...]]:
    """The rows of one variant, of its trials that ended, by number."""
    by_trial = curves.pivot(index="epoch", columns="trial", values="valid_score")
    at, scores = by_trial.index.to_numpy(), by_trial.reindex(columns=own.index.astype("int64")).to_numpy()
    final = own["valid_score"].where(scored(own), np.inf).to_numpy(dtype=float)
    tested = own["test_score"].to_numpy(dtype=float)
    trained = own["epochs"].to_numpy(dtype=float)
    best = stats.best_fraction(final, fraction)
    rows, left, saved_before = [], np.arange(len(own)), 0.0
    for epoch in epochs:
        until = scores[at <= epoch]
        known = np.where(np.isnan(until), np.inf, until).min(axis=0, initial=np.inf)
        known[(own["status"] == "diverged").to_numpy() & (trained <= epoch)] = np.inf
        for how, among in ((ONCE, np.arange(len(own))), (IN_TURN, left)):
            kept = np.sort(among[np.argsort(known[among], kind="stable")][: (len(among) + 1) // 2])
            stopped = np.setdiff1d(among, kept)
            saved = np.maximum(trained[stopped] - epoch, 0).sum() / trained.sum()
            if how == IN_TURN:
                saved_before = saved = saved_before + saved
                left = kept
            lost = 1 - len(np.intersect1d(best, kept)) / len(best) if len(best) else stats.NAN
            again = kept[np.argsort(final[kept], kind="stable")][: len(best)]
            again = again[np.isfinite(final[again])]
            shift = tested[again].mean() - tested[best].mean() if len(again) else stats.NAN
            rows.append((own["variant"].iloc[0], epoch, how, len(own), len(best), lost, float(saved), float(shift)))
    return rows


def over_variants(found: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Of `halving`, over the variants.

    Returns:
        One row an epoch and way: epoch, how, variants, lost, lost_low, lost_high (mean and range over the variants),
        saved (mean), shift (mean), bias (the largest change of a variant's difference from the baseline, either way;
        NaN without the baseline).
    """
    rows = []
    for (epoch, how), own in found.groupby(["epoch", "how"], sort=False):
        shift = own.set_index("variant")["shift"]
        bias = (shift - shift[baseline]).abs().max() if baseline in shift.index else stats.NAN
        lost = own["lost"]
        row = (epoch, how, len(own), lost.mean(), lost.min(), lost.max(), own["saved"].mean(), shift.mean(), bias)
        rows.append(row)
    names = ("epoch", "how", "variants", "lost", "lost_low", "lost_high", "saved", "shift", "bias")
    return pd.DataFrame(rows, columns=list(names))
