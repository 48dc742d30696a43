"""The figures of learning, one function each, from the frames of `analysis`."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis import figures, style
from analysis.dashboard.charts import HEIGHT
from analysis.dashboard.figure import (
    BLUE,
    EPOCH,
    GREY,
    RULE,
    Figure,
    by_variant,
    drawn_from,
    movable,
    number,
    text,
)
from analysis.style import margin

MOST_CURVES = 60  # of a panel
N_POINTS = 48  # of a curve that is drawn
DOT = {"type": "point", "filled": True, "size": 60, "color": BLUE, "opacity": 1, "clip": True}


def expected(drawn: pd.DataFrame, select: Any, against: Literal["n", "seconds"], label: str, baseline: str) -> Figure:
    """Expected test score of the best of n random trials, with 95 % bands, against n or their training time.

    Args:
        drawn: as of `summaries.expected_best`.
        select: the score that chooses the best of n.
        against: ``n`` or ``seconds``.
        label: what the score is, with its unit.
        baseline: drawn in ink.
    """
    colour, _ = by_variant(list(dict.fromkeys(drawn["variant"])), baseline)
    ends = figures.limits_of_expected(drawn)
    unit, size = style.time_unit(drawn["seconds"]) if against == "seconds" else ("", 1.0)
    drawn = thinned(drawn, "variant").assign(x=drawn[against] / size)
    drawn = drawn[drawn["x"] > 0]
    title = f"expected best test {label}"
    x = number("x", "trials" if against == "n" else f"training time [{unit}]", log=True)
    area, line = {"type": "area", "opacity": 0.1, "clip": True}, {"type": "line", "strokeWidth": 2, "clip": True}
    low = number("low", title, domain=ends)
    layers = [
        drawn_from("expected", area, x=x, y=low, y2={"field": "high"}, color=colour),
        drawn_from("expected", line, x=x, y=number("mean", title, domain=ends), color=colour),
    ]
    caption = f"Expected test score of the best of n random trials, chosen by {select} score, over all subsets of the "
    caption += "trials (Dodge et al. 2019; unbiased as in Tang et al. 2020). Bands: 95 % jackknife intervals, up to "
    caption += "half of the trials. Diverged trials count as the worst finished one of their variant."
    name = "Expected best against " + ("trials" if against == "n" else "training time")
    data = {"expected": drawn[["variant", "x", "n", "mean", "low", "high"]]}
    return Figure(f"expected_{against}", name, caption, {"layer": layers, "height": HEIGHT}, data)


def curves(
    own: pd.DataFrame, reference: pd.DataFrame, variant: str, label: str, what: str, ends: list[float]
) -> Figure:
    """Learning curves of trials of one variant, the best in colour with a dot at its best epoch.

    Args:
        own: as of `summaries.best_curves`, of this variant.
        reference: the best curve of the baseline, to be dashed; may be empty.
        variant: its name.
        label: what the score is, with its unit.
        what: which trials these are, in words.
        ends: of the score axis, as of `curve_ends`.
    """
    n = own["place"].nunique()
    kept = thinned(own[own["place"] <= MOST_CURVES], "place", keep=own["epoch"] == own["best_epoch"])
    first = kept["place"] == 1
    domain, axis = movable(ends)
    y = number("valid_score", f"validation {label}", domain=domain)
    line = {"type": "line", "clip": True}
    layers = [
        drawn_from(
            "curves",
            {**line, "strokeWidth": 1, "color": RULE},
            x=EPOCH,
            y=y,
            detail={"field": "trial", "type": "nominal"},
        ),
        drawn_from("reference", {**line, "strokeDash": [4, 3], "color": GREY}, x=EPOCH, y=y),
        drawn_from("best", {**line, "strokeWidth": 2.5, "color": BLUE}, x=EPOCH, y=y),
        drawn_from("dot", DOT, x=EPOCH, y=y),
    ]
    caption = f"Validation score by epoch of {variant}, {what}: n = {n}"
    caption += f", of which the best {MOST_CURVES} are drawn. " if n > MOST_CURVES else ". "
    caption += "Blue: the best, a dot at its best epoch. Dashed: the best of the baseline. Curves that begin above the "
    caption += f"axis enter it later; long ones are drawn at {N_POINTS} of their epochs."
    columns = ["variant", "trial", "epoch", "valid_score"]
    data = {
        "curves": kept.loc[~first, columns],
        "reference": thinned(reference, "place")[columns],
        "best": kept.loc[first, columns],
        "dot": kept.loc[first & (kept["epoch"] == kept["best_epoch"]), columns],
    }
    return Figure(
        f"curves_{variant}", f"{variant} (n = {n})", caption, {"params": axis, "layer": layers, "height": 200}, data
    )


def stability(drawn: pd.DataFrame, baseline: str) -> Figure:
    """How well the order of the trials after each epoch foretells the final one.

    Args:
        drawn: as of `summaries.rank_stability`.
        baseline: drawn in ink.
    """
    colour, _ = by_variant(list(dict.fromkeys(drawn["variant"])), baseline)
    y = number("correlation", "rank correlation")
    chart = drawn_from("stability", {"type": "line", "strokeWidth": 2}, x=EPOCH, y=y, color=colour)
    n = [int(n) for n in drawn["n"]]
    caption = "Spearman's correlation between the best validation score of the trials up to an epoch and at their end, "
    caption += f"over the finished trials ({min(n)} to {max(n)} a variant); 1 at the last epoch by definition."
    data = {"stability": thinned(drawn, "variant")}
    return Figure("stability", "Stability of the ranks", caption, {**chart, "height": HEIGHT}, data)


def trial_curve(curve: np.ndarray, best_epoch: Any, label: str, points: int = N_POINTS) -> Figure:
    """The learning curve of one trial.

    Args:
        curve: training loss and validation score by epoch, [E, 2].
        best_epoch: of the validation score; may be missing.
        label: what the score is, with its unit.
        points: at which a long curve is drawn.
    """
    kinds = ["train_loss", "valid_score"]
    best = np.array([] if pd.isna(best_epoch) else [int(best_epoch) - 1], dtype=int)
    best = best[best < len(curve)]
    places = np.union1d(_places(len(curve), points), best)
    long = pd.DataFrame(
        {
            "epoch": np.tile(places + 1, 2),
            "what": np.repeat(np.array(kinds, dtype=object), len(places)),
            "y": curve[places].T.ravel(),
        }
    )
    y = number("y", label)
    colour = {**text("what", sort=kinds), "scale": {"domain": kinds, "range": [GREY, BLUE]}}
    dash = {**text("what", sort=kinds), "scale": {"domain": kinds, "range": [[4, 3], [1, 0]]}}
    layers = [
        drawn_from("curve", {"type": "line", "strokeWidth": 2}, x=EPOCH, y=y, color=colour, strokeDash=dash),
        drawn_from("dot", DOT, x=EPOCH, y=y),
    ]
    caption = "Training loss and validation score by epoch; dot: the epoch whose weights were tested."
    data = {"curve": long, "dot": pd.DataFrame({"epoch": best + 1, "y": curve[best, 1]})}
    return Figure("curve", "Learning curve", caption, {"layer": layers, "height": HEIGHT - 60}, data)


def curve_ends(drawn: pd.DataFrame) -> list[float]:
    """The score axis of learning curves, which begin high."""
    scores = drawn["valid_score"]
    begins = drawn.loc[drawn["epoch"] == drawn["epoch"].min(), "valid_score"].max()
    q1, q3 = scores.quantile([0.25, 0.75])
    return margin(scores.min(), min(scores.max(), q3 + 6 * (q3 - q1), begins))


def thinned(drawn: pd.DataFrame, by: str, keep: pd.Series | None = None, points: int = N_POINTS) -> pd.DataFrame:
    """Of curves, each of the rows with one value in the column `by`, at most `points` rows, denser at the beginning,
    the last one among them, and those to `keep`."""
    place = drawn.groupby(by, observed=True, sort=False).cumcount()
    length = int(place.max()) + 1 if len(drawn) else 0
    if length <= points:
        return drawn
    last = ~drawn.duplicated(by, keep="last")
    kept = place.isin(_places(length, points)) | last
    return drawn[kept if keep is None else kept | keep.reindex(drawn.index, fill_value=False)]


def _places(length: int, points: int) -> np.ndarray:
    """Which epochs, counted from 0, of so many are drawn; the first and the last are."""
    return np.arange(length) if length <= points else np.unique(np.geomspace(1, length, points).round().astype(int) - 1)
