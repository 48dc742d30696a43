"""Frames of trials, as of `analysis.load`: which of them count, for what, and how they belong together."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis import stats
from analysis.load import sampled

Select = Literal["valid", "test"]
BASELINE = "vanilla"
FRACTION = 0.1


def is_paired(trials: pd.DataFrame) -> bool:
    """Whether ended trials of one number have the same settings and seed, and some number has several of them.

    A setting that only some of them have, as a toggle of one variant, does not count. Derived from the trials, so that
    it holds of studies whose plan does not say, and not of those whose sampler learnt.
    """
    groups = trials[has_result(trials)].groupby("trial")
    if not (groups.size() > 1).any():
        return False
    return bool((groups[[*sampled(trials), "seed"]].nunique() <= 1).all(axis=None))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows by column: what ``to_dict("records")`` says, which takes many times as long for few rows of many
    columns."""
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*(frame[name].tolist() for name in names), strict=True)]


def parts(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """((study, task), its trials) for each task of each study, in the order of `frame`."""
    for (study, task), trials in frame.groupby(["study", "task"], observed=True, sort=False):
        yield (str(study), str(task)), trials


def best_trials(frame: pd.DataFrame, select: Select = "valid", fraction: float = FRACTION) -> pd.Series:
    """Whether each trial is among the best fraction of its study, task and variant, with the index of `frame`."""
    scores = selecting(frame, select)
    best = pd.Series(False, index=frame.index)
    for _, group in scores.groupby([frame["study"], frame["task"], frame["variant"]], observed=True):
        best[group.index[stats.best_fraction(group, fraction)]] = True
    return best


def selecting(frame: pd.DataFrame, select: Select) -> pd.Series:
    """The scores that pick the best: infinite for a diverged trial, NaN for one that failed or has not ended."""
    scores = frame[f"{select}_score"].where(scored(frame))
    return scores.where(frame["status"] != "diverged", np.inf)


def scored(frame: pd.DataFrame) -> pd.Series:
    """Whether each trial finished with finite scores."""
    return (frame["status"] == "finished") & np.isfinite(frame["valid_score"]) & np.isfinite(frame["test_score"])


def has_result(frame: pd.DataFrame) -> pd.Series:
    """Whether each trial finished or diverged, which both are results."""
    return frame["status"].isin(["finished", "diverged"])


def reference_of(trials: pd.DataFrame) -> str:
    """The variant that others are held against where nobody says which: `BASELINE`, or the first."""
    variants = variants_of(trials)
    return BASELINE if BASELINE in variants else variants[0]


def variants_of(trials: pd.DataFrame) -> list[str]:
    """The variants present, in planned order."""
    present = set(trials["variant"])
    return [variant for variant in trials["variant"].cat.categories if variant in present]


def upper_limit(scores: pd.Series) -> float:
    """A limit to scores that a few far worse trials do not move: NaN without data.

    It is the highest score, or `stats.fence` over all variants, if that is below.
    """
    return min(stats.box(scores)["high"], stats.fence(scores))
