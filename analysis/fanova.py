"""Functional ANOVA: how much of the scores' variance is due to which settings, alone and together.

The method is that of Hutter, Hoos and Leyton-Brown (2014), "An Efficient Approach for Assessing Hyperparameter
Importance": a random forest learns the score from the settings; each tree is constant on boxes of the space, so its
marginals and their variances are finite sums. They are exact for the trees; how well those know the scores is another
matter, which the out-of-bag R^2 tells. A tree is a staircase of about as many steps as there are trials, and what it
gets wrong, noise included, counts mostly as interactions, at the cost of the main effects. So there are also debiased
shares, of the variance of E[score | settings], which has no noise: `_debiased`. Only these have errors over the trials;
what rests on an error, such as a verdict, rests on them.

Every dimension is measured as it was sampled: evenly on its own scale, logarithmic or not. An integer owns the unit
interval around it on that scale, and a split between two integers falls on the border of their intervals. Of K
categories each owns 1 / K. They are coded by the order of their mean scores over all trials, and trees split the codes
(Wright and Koenig 2019, "Splitting on categorical predictors in random forests"), so that neither the values nor their
order in the plan matter. A leaf then holds a run of codes, which is a set of categories of known weight, whatever the
order: the sums stay exact. The price is an out-of-bag R^2 that has seen the order, which matters only where categories
are many and trials few.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis import stats
from analysis._decomposition import HIGHER, Fanova
from analysis._growing import MIN_TRIALS, N_TREES, decomposed
from analysis.frames import has_result, variants_of
from search import cells
from search.errors import expect
from search.study.plan import Plan
from search.study.space import REQUIRED, Dimension, parse

__all__ = ["HIGHER", "By", "Diverged", "Fanova", "Score", "fit", "from_arrays"]

Score = Literal["test_score", "valid_score", "train_seconds", "diverged"]
By = Literal["variant", "toggles"]
Diverged = Literal["cutoff", "left out"]


def fit(
    frame: pd.DataFrame,
    plan: Plan,
    score: Score = "test_score",
    by: By | None = None,
    cutoff: float | None = None,
    n_trees: int = N_TREES,
    seed: int = 0,
    diverged: Diverged = "cutoff",
) -> Fanova:
    """The functional ANOVA of a study's scores over its hyperparameters, and over architecture if asked.

    Trials that finished count with their score, at most the cutoff. Those that diverged count as the cutoff: the search
    drew them, and to leave them out would hide what makes training diverge; their time says nothing, so for
    ``train_seconds`` they are left out. Other trials have no score and are left out too. Where divergence is not what
    is asked about, it may be left out: then the shares are those of E[score | settings] over trials that did not
    diverge, which where most do is known from few.

    Args:
        frame: as of `analysis.load`, with one task. Variants in it are pooled unless `by` tells them apart.
        plan: of the study, whose space says how each setting was sampled.
        score: the column that is explained; ``diverged`` is whether a trial did, 1 or 0, so that what is explained is
            the probability of it.
        by: ``variant`` adds the variant as one categorical dimension; ``toggles`` adds instead every toggle in which
            the cells of the variants differ. Toggles that always differ together cannot be told apart and make one
            dimension, such as ``peephole_i/f/o``. All combinations of toggles weigh the same, also those of which
            there is no trial: a note says of how many there is one.
        cutoff: worse scores are set to it. By default the far-out fence of the finished trials (see `stats.fence`), or
            their worst score if that is below.
        n_trees: of the forest.
        seed: of the forest.
        diverged: what trials that diverged count as: the ``cutoff``, or ``left out``.

    Raises:
        UserError: fewer than 8 trials have a score, no dimension varies, or an argument is not as above.
    """
    expect(score in get_args(Score), "score", score, f"one of {', '.join(get_args(Score))}")
    expect(by in (None, "variant", "toggles"), "by", by, "variant, toggles or None")
    expect(diverged in get_args(Diverged), "diverged", diverged, f"one of {', '.join(get_args(Diverged))}")
    expect(cutoff is None or math.isfinite(cutoff), "cutoff", cutoff, "a finite number or None")
    tasks = frame["task"].nunique()
    expect(tasks <= 1, "frame", f"{tasks} tasks", "trials of one task")

    scores = _scores(frame, score, diverged)
    trials = frame[scores.notna() & frame["variant"].isin(plan.variants)]
    _check_number(trials, score)
    architecture, variants, notes = _architecture(plan, variants_of(trials), by)
    trials = trials[trials["variant"].isin(variants)]
    _check_number(trials, score)
    others = "" if len(trials) == len(frame) else f"; {len(frame) - len(trials)} have no {score} that counts"
    notes.insert(0, f"{len(trials)} of {len(frame)} trials are used{others}.")

    scores = scores[trials.index].replace(np.inf, np.nan)
    if score == "diverged":
        cutoff = 1.0
    else:
        cutoff, note = _cutoff(scores, cutoff)
        notes.append(note)
    dimensions = list(parse(plan.space, (*REQUIRED, *plan.space)))
    columns = {dimension.name: trials[dimension.name] for dimension in dimensions}
    for name, values in architecture.items():
        columns[name] = pd.Series([values[v] for v in trials["variant"]], index=trials.index, dtype=object)
        dimensions.append(Dimension(name, "choice", values=tuple(dict.fromkeys(values.values()))))
    varying, absent = _varying(dimensions, columns)
    expect(bool(varying), "space", "every setting is fixed", "one that varies")
    data = [columns[dimension.name] for dimension in varying]
    drawn = not plan.learns and by != "toggles"  # of whose combinations few are drawn
    scores = scores.fillna(cutoff).clip(upper=cutoff)
    groups = np.unique(trials["trial"], return_inverse=True)[1]  # over variants, trials of one number are paired
    return decomposed(data, scores.to_numpy(), varying, n_trees, seed, drawn, cutoff, notes + absent, groups)


def from_arrays(
    X: Sequence[ArrayLike] | np.ndarray | pd.DataFrame,
    y: ArrayLike,
    dimensions: Sequence[Dimension],
    n_trees: int = N_TREES,
    seed: int = 0,
    drawn: bool = True,
) -> Fanova:
    """The functional ANOVA of plain arrays.

    Args:
        X: settings in their own units: [n, D], or a sequence of the D columns, [n] each.
        y: [n] finite scores, none of which is cut.
        dimensions: how each of the D was sampled, e.g. ``Dimension("lr", "log_uniform", 1e-6, 1e-2)``.
        n_trees: of the forest.
        seed: of the forest.
        drawn: whether the settings were drawn evenly from the dimensions, as by random search, and not led by scores.
            There are debiased shares only then.

    Raises:
        UserError: n is below 8 or n_trees below 2, or values do not fit their dimension.
    """
    scores = np.asarray(y, dtype=float)
    table: Any = X.to_numpy() if isinstance(X, pd.DataFrame) else X
    columns = list(table.T if isinstance(table, np.ndarray) else table)
    expect(len(scores) >= MIN_TRIALS, "trials", len(scores), f"at least {MIN_TRIALS} for an ANOVA")
    expect(bool(np.isfinite(scores).all()), "y", "not finite", "finite scores")
    fits = len(columns) == len(dimensions) > 0 and all(len(column) == len(scores) for column in columns)
    expect(fits, "X", f"{len(columns)} columns", f"{len(dimensions)} columns of {len(scores)} values")

    return decomposed(columns, scores, dimensions, n_trees, seed, drawn, float(scores.max()))


def _scores(frame: pd.DataFrame, score: Score, diverged: Diverged) -> pd.Series:
    """The scores that count: infinite of trials that count as the cutoff, NaN of those that do not count."""
    if score == "diverged":
        return (frame["status"] == "diverged").astype(float).where(has_result(frame))
    bad = (frame["status"] == "diverged") & (score != "train_seconds") & (diverged == "cutoff")
    finished = (frame["status"] == "finished") & np.isfinite(frame[score])
    return frame[score].where(finished).mask(bad, np.inf)


def _architecture(
    plan: Plan, variants: Sequence[str], by: By | None
) -> tuple[dict[str, Mapping[str, Any]], Sequence[str], list[str]]:
    """{dimension: {variant: value}} of what tells variants apart, which of them, and notes."""
    if by == "toggles":
        return _toggles(plan, variants)
    if by == "variant":
        expect(len(variants) > 1, "by", f"variant, with trials of {variants[0]} alone", "at least two variants")
        return {"variant": {v: v for v in variants}}, variants, []
    return {}, variants, [f"The trials of {len(variants)} variants are pooled."] if len(variants) > 1 else []


def _check_number(trials: pd.DataFrame, score: str) -> None:
    expect(len(trials) >= MIN_TRIALS, "trials", f"{len(trials)} with {score}", f"at least {MIN_TRIALS} for an ANOVA")


def _varying(dimensions: Sequence[Dimension], columns: Mapping[str, pd.Series]) -> tuple[list[Dimension], list[str]]:
    """The dimensions of more than one value, without the categories of which there is no trial; notes on those."""
    varying, notes = [], []
    for dimension in dimensions:
        seen = set(columns[dimension.name])
        present = tuple(value for value in dimension.values if value in seen)
        if absent := [str(value) for value in dimension.values if value not in seen]:
            notes.append(f"{dimension.name}: no trial has {', '.join(absent)}.")
        if len(present) > 1 or (not dimension.values and dimension.low < dimension.high):
            varying.append(replace(dimension, values=present))
    return varying, notes


def _cutoff(scores: pd.Series, given: float | None) -> tuple[float, str]:
    """The cutoff, and a note on it."""
    cutoff, origin = _fence(scores) if given is None else (given, "given")
    n_cut, n_diverged = int((scores > cutoff).sum()), int(scores.isna().sum())
    text = f"{n_cut} worse trials are set to it, {n_diverged} diverged count as it"
    return cutoff, f"Cutoff {cutoff:.6g} ({origin}): {text}."


def _fence(scores: pd.Series) -> tuple[float, str]:
    """The default cutoff, and what it is."""
    box = stats.box(scores)
    expect(box["n"] > 0, "trials", "0 finished", "finished trials, or a cutoff for those that diverged")
    fence = stats.fence(scores)
    if box["q1"] < box["q3"] and fence < box["high"]:  # where most are equal, a fence would cut all others
        return fence, "Tukey's far-out fence" if fence > box["q3"] else "the far-out fence of the better half"
    return box["high"], "the worst that finished"


def _toggles(plan: Plan, variants: Sequence[str]) -> tuple[dict[str, Mapping[str, Any]], list[str], list[str]]:
    """{dimension: {variant: value}} of the toggles in which the cells of `variants` differ; which variants; notes."""
    # A plan may come from anyone: no module that it names is run.
    made = {v: cells.define(plan.variants[v]) for v in variants if not cells.is_own(plan.variants[v])}
    kinds = [type(cell) for cell in made.values()]
    kept = [v for v, cell in made.items() if type(cell) is max(kinds, key=kinds.count)]
    notes = []
    if others := [v for v in variants if v not in kept]:
        notes.append(f"Left out, as other cells have other toggles: {', '.join(others)}.")

    patterns: dict[tuple[int, ...], list[str]] = {}
    for name in cells.toggles(made[kept[0]]) if kept else ():
        settings = [getattr(made[variant], name) for variant in kept]
        pattern = tuple(settings.index(value) for value in settings)
        if any(pattern) and name not in plan.space:
            patterns.setdefault(pattern, []).append(name)
    expect(bool(patterns), "by", "toggles", "trials of variants that differ in a toggle")

    found: dict[str, Mapping[str, Any]] = {}
    for names in patterns.values():
        joint = {v: list(dict.fromkeys(getattr(made[v], name) for name in names)) for v in kept}
        found[_joined(names)] = {v: one[0] if len(one) == 1 else "/".join(map(str, one)) for v, one in joint.items()}
        if len(names) > 1:
            notes.append(f"{', '.join(names)} differ only together and are one dimension.")
    n_combinations = math.prod(len(set(values.values())) for values in found.values())
    n_tried = len({tuple(values[v] for values in found.values()) for v in kept})
    notes.append(
        f"The trials have {n_tried} of {n_combinations} combinations of toggles; the forest extends to the rest."
    )
    return found, kept, notes


def _joined(names: Sequence[str]) -> str:
    """``peephole_i/f/o``"""
    stem = names[0][: names[0].rfind("_") + 1]
    if len(names) == 1 or not all(name.startswith(stem) for name in names):
        return "/".join(names)
    return stem + "/".join(name.removeprefix(stem) for name in names)
