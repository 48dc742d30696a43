"""What the published studies say beyond the paper: all toggles at once, and which evolutions there are."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis import evolution, stats, tables
from analysis.compare import ALPHA, compare
from analysis.frames import BASELINE, records
from analysis.importance import Importance
from analysis.table_text import Column, Table, fixed, of_columns, percent
from search import cells
from search.errors import expect
from search.evolve import settings as kept_settings

_CONTRAST = "difference from vanilla's value"
SHOWN = 12  # shares of the variance, the largest


def shares(importance: Importance, name: str) -> Table:
    """The settings and toggles, and pairs of them, that explain most of the variance of the test score."""
    own = importance.shares_of("test_score")
    columns = {
        "dimensions": Column("", "of", str),
        "debiased": Column("share of the variance", "%", percent(1)),
        "se": Column("share of the variance", "se", percent(1)),
    }
    return of_columns(records(own.nlargest(SHOWN, "debiased")), columns, name, "Shares")


def by_toggle(trials: pd.DataFrame) -> pd.DataFrame:
    """The best trials with each value of each toggle against the best with the value that vanilla has.

    Args:
        trials: of one variant, in which toggles are drawn.

    Returns:
        A row a toggle and value: toggle, value, and of `analysis.compare` trials (that ended), n_diverged, n_best,
        best_mean, best_se and, where it is not vanilla's, difference with its ends, p_adjusted (Bonferroni, over all
        rows that are tested) and significant.
    """
    trials, vanilla, parts = trials[trials["status"].isin(evolution.ENDED)], cells.get(BASELINE), []
    for toggle in (name for name in cells.toggles(type(vanilla)) if name in trials and trials[name].nunique() > 1):
        values = trials[toggle].astype(str)
        own = str(getattr(vanilla, toggle))
        order = [own, *sorted(set(values) - {own})]
        named = trials.assign(variant=pd.Categorical(values, order, ordered=True))
        table = compare(named, baseline=own)
        ended = values.value_counts().reindex(order).to_numpy()
        parts.append(table.assign(toggle=toggle, value=order, trials=ended))
    expect(bool(parts), "trials", len(trials), "some that have ended and differ in a toggle")
    found = pd.concat(parts, ignore_index=True)
    found.loc[found["variant"].astype(str) == found["baseline"].astype(str), "difference"] = stats.NAN
    found["p_adjusted"] = (found["p"] * found["p"].notna().sum()).clip(upper=1.0)
    return found.assign(significant=found["p_adjusted"] < ALPHA)


def toggles(trials: pd.DataFrame, name: str) -> Table:
    """`by_toggle` as a table."""
    columns = {
        "toggle": Column("", "toggle", str),
        "value": Column("", "value", str),
        "trials": Column("", "trials", fixed(0)),
        "n_diverged": tables.COMPARISON["n_diverged"],
        "best_mean": replace(tables.COMPARISON["best_mean"], group="best 10 %"),
        "difference": replace(tables.COMPARISON["difference"], group=_CONTRAST),
        "p_adjusted": replace(tables.COMPARISON["p_adjusted"], group=_CONTRAST),
    }
    return of_columns(records(by_toggle(trials)), columns, name, "Toggles")


def evolutions(folder: Path) -> list[Path]:
    """The evolutions among the published studies of a folder."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and kept_settings.is_one(path)]
