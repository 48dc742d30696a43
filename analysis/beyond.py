"""What the published studies say beyond the paper: all toggles at once, and cells that were made by mutation."""

from pathlib import Path
from typing import Any

import pandas as pd

from analysis import evolution, evolution_words, tables
from analysis.compare import ALPHA, compare
from analysis.dashboard.cards import card
from analysis.evolution import Evolution
from analysis.frames import BASELINE, records
from analysis.importance import Importance
from analysis.table_text import Column, Table, fixed, of_columns, percent
from search import cells
from search.evolve.generation import BEST

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
    vanilla = cells.get(BASELINE)
    parts = []
    for toggle in (name for name in cells.toggles(type(vanilla)) if name in trials and trials[name].nunique() > 1):
        values = trials[toggle].astype(str)
        own = str(getattr(vanilla, toggle))
        order = [own, *sorted(set(values) - {own})]
        named = trials.assign(variant=pd.Categorical(values, order, ordered=True))
        table = compare(
            named,
            baseline=own,
        )
        ended = table["n_finished"] + table["n_diverged"] + table["n_failed"]
        parts.append(table.assign(toggle=toggle, value=table["variant"].astype(str), trials=ended))
    found = pd.concat(parts, ignore_index=True)
    found["p_adjusted"] = (found["p"] * found["p"].notna().sum()).clip(upper=1.0)
    return found.assign(significant=found["p_adjusted"] < ALPHA)


def toggles(trials: pd.DataFrame, name: str) -> Table:
    """`by_toggle` as a table."""
    columns = {
        "toggle": Column("", "toggle", str),
        "value": Column("", "value", str),
        "trials": Column("", "trials", fixed(0)),
        **{key: tables.COMPARISON[key] for key in ("n_diverged", "best_mean", "difference", "p_adjusted")},
    }
    return of_columns(records(by_toggle(trials)), columns, name, "Toggles")


def best(found: Evolution, name: str) -> Table:
    """The best cells of an evolution, with their equations."""
    rows: list[dict[str, Any]] = []
    for place, each in enumerate(found.survivors[:BEST], 1):
        lines = card(each.name, each.definition)["equations"]
        rows.append({"place": place, "name": each.name, "score": each.fitness, "equations": "; ".join(lines)})
        rows[-1] |= {f"score_{task}": each.scores.get(task) for task in found.tasks}
    columns = {"place": Column("", "place", str), "name": Column("", "cell", str)}
    columns |= {"score": Column("relative score", "worst", fixed(3))}
    columns |= {f"score_{task}": Column("relative score", task, fixed(3)) for task in found.tasks}
    return of_columns(rows, columns | {"equations": Column("", "equations", str)}, name, "The best")


def outcomes(found: Evolution, name: str) -> Table:
    """What became of its children."""
    own = evolution.totals(evolution.outcomes(found)).rename(columns={"low": "share_low", "high": "share_high"})
    columns = {"outcome": Column("", "outcome", str), "n": Column("", "n", fixed(0))}
    columns |= {"share": Column("", "% of all [95 %]", percent(1), interval=True)}
    return of_columns(records(own), columns, name, evolution_words.stands(found))


def evolutions(folder: Path) -> list[Path]:
    """The evolutions among the published studies of a folder."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and evolution.folder_of(path, folder)]
