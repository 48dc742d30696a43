"""What replicates of the best trials came to (`search.study.replicate`): description, beside what the search found."""

from pathlib import Path

import pandas as pd

from analysis import stats
from analysis.frames import scored, variants_of
from analysis.load import load
from analysis.summaries import axis_end
from analysis.table_text import Column, fixed
from search.study.plan import PLAN_FILE
from search.study.replicate import folder_of

COLUMNS = {
    "variant": Column("", "variant", str),
    "trial": Column("search", "trial", fixed(0)),
    "searched": Column("search", "test score", fixed(3)),
    "n_finished": Column("replicates", "finished", fixed(0)),
    "n_diverged": Column("replicates", "diverged", fixed(0)),
    "low": Column("replicates", "lowest", fixed(3)),
    "q1": Column("replicates", "q1", fixed(3), "Q1, q3: 25th and 75th percentile."),
    "median": Column("replicates", "median", fixed(3)),
    "q3": Column("replicates", "q3", fixed(3)),
    "high": Column("replicates", "highest", fixed(3)),
}
KEYS = ["variant", "trial", "searched", "replicate", "seed", "status", "valid_score", "test_score"]


def of_best(folder: Path, trials: pd.DataFrame) -> pd.DataFrame:
    """The replicates of each variant's trial of the best validation score.

    Args:
        folder: of the study.
        trials: of one task of it, as of `analysis.load`.

    Returns:
        One row a replicate: variant, trial (that was trained again), searched (its test score in the search),
        replicate (a number), seed, status, valid_score, test_score, limit (upper end of their axis). Empty if there are
        none.

    Raises:
        UserError: replicates cannot be read.
    """
    found = []
    finished = trials[scored(trials)].sort_values(["valid_score", "trial"])
    for variant in variants_of(trials):
        own = finished[finished["variant"] == variant]
        if len(own) and (folder_of(folder, variant, own["trial"].iloc[0]) / PLAN_FILE).is_file():
            first = own.iloc[0]
            again = load(folder_of(folder, variant, first["trial"])).rename(columns={"trial": "replicate"})
            again = again.assign(variant=variant, trial=first["trial"], searched=first["test_score"])
            found.append(again[KEYS])
    if not found:
        return pd.DataFrame(columns=[*KEYS, "limit"])
    replicates = pd.concat(found, ignore_index=True)
    shown = pd.concat([replicates.loc[scored(replicates), "test_score"], replicates["searched"]])
    return replicates.assign(limit=axis_end(shown))


def summary(replicates: pd.DataFrame) -> pd.DataFrame:
    """Of `of_best`, one row a variant: variant, trial, searched, n_finished, n_diverged, and low, q1, median, q3, high
    of the test scores of the replicates that finished, of which some may have run away."""
    rows = []
    for variant, own in replicates.groupby("variant", sort=False):
        box = stats.box(own.loc[scored(own), "test_score"])
        row = {"variant": variant, "trial": own["trial"].iloc[0], "searched": own["searched"].iloc[0]}
        row |= {"n_finished": int(box["n"]), "n_diverged": int((own["status"] == "diverged").sum())}
        rows.append(row | {name: box[name] for name in ("low", "q1", "median", "q3", "high")})
    return pd.DataFrame(rows)
