"""From one setting to another: which of the changes on the way matter, and what tuning each setting gains.

Both ask the forest of a functional ANOVA, which is exact for the forest: it is constant on boxes. How well the forest
knows the scores is another matter, and far from the trials it does not.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis import stats
from analysis.fanova import Fanova


def path(fitted: Fanova, start: Mapping[str, Any], end: Mapping[str, Any]) -> pd.DataFrame:
    """The ablation path from one setting to another (Fawcett and Hoos 2016, "Analysing differences between algorithm
    configurations through ablation"; on a model's predictions, Biedenkapp et al. 2017).

    One dimension after the other takes its value at the end; next is always the one that lowers the prediction most.

    Args:
        fitted: whose forest predicts.
        start, end: a value for each of its dimensions.

    Returns:
        One row a step, the first being the start: step, dimension (empty at the start), before, after (its values),
        mean, sd (of the predicted score, over the trees), change, change_sd (from the step before; NaN at the start).
        Dimensions whose values are the same take no step.

    Raises:
        UserError: a value does not fit its dimension. KeyError: there is none for a dimension.
    """
    here, last = dict(start), fitted.predict(start)
    rows: list[tuple[Any, ...]] = [(0, "", None, None, stats.mean(last), stats.sd(last), np.nan, np.nan)]
    left = [name for name in fitted.dimensions if start[name] != end[name]]
    while left:
        tried = {name: fitted.predict(here | {name: end[name]}) for name in left}
        name = min(tried, key=lambda one: stats.mean(tried[one]))
        now, change = tried[name], tried[name] - last
        rows.append(
            (
                len(rows),
                name,
                here[name],
                end[name],
                stats.mean(now),
                stats.sd(now),
                stats.mean(change),
                stats.sd(change),
            )
        )
        here, last = here | {name: end[name]}, now
        left.remove(name)
    columns = ["step", "dimension", "before", "after", "mean", "sd", "change", "change_sd"]
    return pd.DataFrame(rows, columns=columns).astype({"before": object, "after": object})


def tunability(fitted: Fanova, at: Mapping[str, Any], of: tuple[str, ...] | None = None) -> pd.DataFrame:
    """What tuning one dimension alone gains over a default (Probst et al. 2019, "Tunability: importance of
    hyperparameters of machine learning algorithms", equation 7).

    Args:
        fitted: whose forest predicts.
        at: the default: a value for each of its dimensions.
        of: the dimensions; by default all.

    Returns:
        One row a dimension, the largest gain first: dimension, default, best (the value of the lowest prediction, all
        others being as in `at`), gain, sd (by how much it lowers the prediction: mean over the trees and their sd).

    Raises:
        UserError: a value does not fit its dimension. KeyError: there is none for a dimension.
    """
    default = fitted.predict(at)
    rows = []
    for name in of or fitted.dimensions:
        best = fitted.lowest(name, at)
        gain = default - fitted.predict({**at, name: best})
        rows.append((name, at[name], best, stats.mean(gain), stats.sd(gain)))
    table = pd.DataFrame(rows, columns=["dimension", "default", "best", "gain", "sd"])
    table = table.astype({"default": object, "best": object})
    return table.sort_values("gain", ascending=False, kind="stable", ignore_index=True)
