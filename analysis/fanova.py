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

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import qmc
from sklearn import config_context
from sklearn.ensemble import RandomForestRegressor

from analysis import stats
from analysis._axis import Axis
from analysis._debiased import Basis, CrossFit, Half
from analysis._forest import BoxForest, Floats, Ints
from analysis.compare import has_result, variants_of
from search import cells
from search.errors import expect
from search.study.plan import Plan
from search.study.space import REQUIRED, Dimension, parse

Score = Literal["test_score", "valid_score", "train_seconds", "diverged"]
By = Literal["variant", "toggles"]
Diverged = Literal["cutoff", "left out"]

N_TREES = 100
MIN_TRIALS = 8
# With fewer features than all, trees must split on settings of no effect, which costs the main effects most. Leaves of
# one trial learn all of its noise; larger leaves blur what is there. Without the bootstrap all trees are the same.
FOREST: dict[str, Any] = {"min_samples_leaf": 2, "max_features": 1.0, "bootstrap": True}
LEAVES = (2, 6)  # sizes of the smallest leaf that forests of half of the trials choose from
HIGHER = "higher order"
N_POINTS = 13  # two to the power of this, at which a forest's variance over all dimensions is measured


class Fanova:
    """Shares of variance and marginals of a forest. Means and standard deviations are over its trees.

    Attributes:
        dimensions: names, in order.
        n: trials that the forest learned from.
        notes: sentences: what was cut, left out or merged, and how well the forest fits.
        cutoff: score that worse trials were set to.
        r2: out-of-bag R^2 of the forest. Shares tell of the trials no more than it does: at 0 or below, nothing.
    """

    def __init__(
        self,
        axes: Sequence["Axis"],
        forest: BoxForest,
        n: int,
        cutoff: float,
        r2: float,
        cross_fit: CrossFit | None,
        notes: Sequence[str] = (),
    ):
        self.dimensions = tuple(axis.dimension.name for axis in axes)
        self.n, self.cutoff, self.r2 = n, cutoff, r2
        self.notes = list(notes)
        self._axes, self._forest = tuple(axes), forest
        self._components: dict[tuple[int, ...], Floats] = {}
        self._total = np.where(forest.variance > 0, forest.variance, np.nan)  # a constant tree has no shares
        self._cross_fit = cross_fit

    def share(self, *names: str) -> tuple[float, float]:
        """Share of the variance that is due to these dimensions together and to no fewer of them: mean and sd.

        One name gives its main effect, two their interaction, and so on; over all subsets they add up to 1.
        A dimension that no tree splits has 0. NaN if all scores are equal.

        Raises:
            UserError: not the names of different dimensions.
        """
        return _mean_sd(self._component(self._indices(names)))

    def debiased(self, *names: str, at: float | None = None) -> tuple[float, float]:
        """Share of the variance of E[score | settings] that is due to these one or two dimensions; its standard error.

        `share` is exact for trees that are coarser than that and that have learned noise; this estimates the thing
        itself, from two forests, each put right by the trials that it has not seen (`_debiased.CrossFit`). The error is
        that of the trials, with that of putting right in it: few trials, or noisy ones, make it large. Not in it is
        what forests miss that is neither smooth along one dimension or two, so that a share of steep effects may be too
        low. Below 0 counts as 0. NaN if trials were not drawn evenly from the dimensions, are fewer than 16, or if the
        forest predicts unseen ones no better than their mean.

        Args:
            names: of one or two dimensions.
            at: a share to compare with. The error grows with the share itself, so that it is estimated too small where
                the share is; this asks for the error if the share were `at`, which no smaller share has.

        Raises:
            UserError: not the names of one or two different dimensions.
        """
        chosen = self._indices(names)
        expect(len(chosen) <= 2, "dimensions", ", ".join(names), "one or two names")
        share, error = self._debiased.get(tuple(sorted(chosen)), (math.nan, math.nan))
        if at is not None and at > share:
            assert self._cross_fit
            error = math.sqrt(error**2 + (at - share) * self._cross_fit.growth / self._debiased_total)
        return share, error

    def ahead(self, name_a: str, name_b: str) -> tuple[float, float]:
        """Debiased share of one dimension alone less that of another; its standard error.

        Raises:
            UserError: not the names of two different dimensions.
        """
        a, b = ((d,) for d in self._indices((name_a, name_b)))
        if not self._debiased:
            return math.nan, math.nan
        gap, total = self._debiased[a][0] - self._debiased[b][0], self._debiased_total
        assert self._cross_fit
        return gap, self._cross_fit.error({a: 1.0, b: -1.0}, gap) / total

    def noise(self) -> tuple[float, float]:
        """Share of the variance of the scores that is not of E[score | settings], which no setting explains; its
        standard error. What the estimate misses of steep effects counts as noise. NaN as of `debiased`."""
        if self._cross_fit is None:
            return math.nan, math.nan
        share, error = self._cross_fit.noise()
        return min(max(share, 0.0), 1.0), error

    def rise(self, name: str) -> tuple[float, float]:
        """By how much the straight line through the marginal rises over the range of a setting; its standard error.

        The line of least squares on the scale that the setting was sampled on. It rises for every rising marginal. NaN
        as of `debiased`.

        Raises:
            UserError: not the name of a dimension of numbers.
        """
        (rise,), ((variance,),) = self._rises(name, 1, lambda axis, quantiles: quantiles)
        return float(rise), math.sqrt(variance)

    def rises(self, name: str) -> tuple[Floats, Floats]:
        """By how much the parabola through the marginal rises over the lower and the upper half of a setting's range.

        The parabola of least squares, in the setting's own units; halves in those too. Its second rise is the higher
        one for every convex marginal.

        Returns:
            [2] and their covariance [2, 2]; NaN as of `debiased`.

        Raises:
            UserError: not the name of a dimension of numbers.
        """

        def scaled(axis: Axis, quantiles: Floats) -> Floats:
            low, high = axis.values(np.array([0.0, 1.0]))
            return (axis.values(quantiles) - low) / (high - low)

        return self._rises(name, 2, scaled)

    def curve(self, name: str, points: int = 64) -> tuple[list[Any], Floats, Floats]:
        """The marginal of E[score | settings] over one dimension: [P] values, [P] estimates, [P, P] covariance.

        That of forests, put right by trials that they have not seen as far as it is smooth. Errors that are not are not
        in the covariance. NaN as of `debiased`.

        Raises:
            UserError: not the name of a dimension, or `points` is below 2.
        """
        (d,) = self._indices((name,))
        (values,), (quantiles,) = self._grid((d,), points)
        if self._cross_fit is None:
            return values, np.full(len(values), np.nan), np.full((len(values), len(values)), np.nan)
        return values, *self._cross_fit.curve(d, quantiles)

    def predict(self, settings: Mapping[str, Any]) -> Floats:
        """[T] predicted score of every tree at a value for each dimension.

        Raises:
            UserError: a value does not fit its dimension. KeyError: there is none for a dimension.
        """
        return self._forest.at(self._point(settings))

    def lowest(self, name: str, settings: Mapping[str, Any]) -> Any:
        """The value of one dimension at which the forest predicts the lowest score, with all others as in `settings`.

        Exact: the forest is constant between the cuts of its trees. Of a number, the middle of the lowest interval.

        Raises:
            As `predict`.
        """
        (d,) = self._indices((name,))
        edges, predicted = self._forest.along(d, self._point(settings))
        place = int(predicted.argmin())
        return self._axes[d].value((edges[place] + edges[place + 1]) / 2)

    def _point(self, settings: Mapping[str, Any]) -> Floats:
        """[D] quantiles of one value for each dimension."""
        return np.array([axis.quantile([settings[axis.dimension.name]])[0] for axis in self._axes])

    def _rises(self, name: str, degree: int, scale: Callable[[Axis, Floats], Floats]) -> tuple[Floats, Floats]:
        """Of the polynomial of least squares through a marginal over `scale`, [0, 1]: by how much it rises in each of
        `degree` equal parts, and the covariance of these estimates; NaN as of `debiased`."""
        (d,) = self._indices((name,))
        axis = self._axes[d]
        expect(not axis.dimension.values, "dimension", name, "one of numbers")
        if self._cross_fit is None:
            return np.full(degree, np.nan), np.full((degree, degree), np.nan)
        support, weights = axis.support()
        basis = Basis(scale(axis, support), weights, degree)
        estimate, covariance = self._cross_fit.project(d, lambda quantiles: basis.at(scale(axis, quantiles)))
        steps = np.diff(basis.at(np.linspace(0, 1, degree + 1)), axis=0)[:, : len(estimate)]
        return steps @ estimate, steps @ covariance @ steps.T

    def shares(self, max_order: int = 2) -> pd.DataFrame:
        """The shares of all single dimensions, pairs, ... up to `max_order` at once.

        Returns:
            ``dimensions`` ("lr", "lr x hidden_size"), ``order`` (how many they are), ``mean``, ``sd`` over the trees,
            ``debiased``, ``se`` (of `debiased`; NaN above pairs); the highest mean first. The last row,
            ``higher order``, has all the rest; its order is the lowest in it.

        Raises:
            UserError: `max_order` is below 1.
        """
        expect(max_order >= 1, "max_order", max_order, "a whole number of at least 1")
        rows = []
        rest = np.ones(len(self._total))
        for order in range(1, min(max_order, len(self._axes)) + 1):
            for chosen in itertools.combinations(range(len(self._axes)), order):
                component = self._component(chosen)
                rest = rest - component
                debiased = self._debiased.get(chosen, (math.nan, math.nan))
                rows.append((" x ".join(self.dimensions[d] for d in chosen), order, *_mean_sd(component), *debiased))
        rows.sort(key=lambda row: -row[2])
        if len(self._axes) <= max_order:
            rest = np.where(np.isnan(rest), np.nan, 0.0)
        left = max(1 - sum(row[4] for row in rows), 0.0) if rows else math.nan
        rows.append((HIGHER, max_order + 1, *_mean_sd(np.maximum(rest, 0.0)), left, math.nan))
        return pd.DataFrame(rows, columns=["dimensions", "order", "mean", "sd", "debiased", "se"])

    def marginal(self, *names: str, points: int = 64) -> pd.DataFrame:
        """Predicted score over these dimensions, averaged over all others.

        Args:
            names: of one or more dimensions.
            points: along each, spaced as it was sampled and with both bounds; integers at most once, categories all.

        Returns:
            A column a name, in its own units, then ``mean`` and ``sd``; a row a point of the grid, the last name
            running fastest.

        Raises:
            UserError: not the names of different dimensions, or `points` is below 2.
        """
        chosen = self._indices(names)
        values, at = self._grid(chosen, points)
        return _frame([self._axes[d] for d in chosen], values, self._marginals(chosen, at))

    def interaction(self, name_a: str, name_b: str, points: int = 32) -> pd.DataFrame:
        """What a pair adds to the mean and the two main effects: its marginal less theirs.

        Returns:
            As of `marginal`: columns `name_a`, `name_b`, ``mean``, ``sd``.

        Raises:
            UserError: not the names of two dimensions, or `points` is below 2.
        """
        a, b = self._indices((name_a, name_b))
        values, at = self._grid((a, b), points)
        main_a, main_b = self._marginals((a,), at[:1]), self._marginals((b,), at[1:])
        mean = self._forest.mean[:, None, None]
        pure = self._marginals((a, b), at) - main_a[:, :, None] - main_b[:, None, :] + mean
        return _frame([self._axes[a], self._axes[b]], values, pure)

    def _indices(self, names: Sequence[str]) -> tuple[int, ...]:
        expected = f"different names among {', '.join(self.dimensions)}"
        text = ", ".join(map(str, names)) or "(none)"
        known = all(name in self.dimensions for name in names)
        expect(bool(names) and known and len(set(names)) == len(names), "dimensions", text, expected)
        return tuple(self.dimensions.index(name) for name in names)

    def _component(self, chosen: tuple[int, ...]) -> Floats:
        """[T] share of each tree's variance due to exactly these dimensions, by inclusion and exclusion."""
        chosen = tuple(sorted(chosen))
        if chosen not in self._components:
            split = np.logical_and.reduce([self._forest.splits(d) for d in chosen])
            share = self._forest.marginal_variance(chosen) / self._total
            for order in range(1, len(chosen)):
                for subset in itertools.combinations(chosen, order):
                    share = share - self._component(subset)
            self._components[chosen] = np.where(split, np.maximum(share, 0.0), 0.0 * self._total)
        return self._components[chosen]

    @cached_property
    def _debiased(self) -> dict[tuple[int, ...], tuple[float, float]]:
        """Share and standard error of every single dimension and every pair."""
        estimate = self._cross_fit
        if estimate is None or not estimate.total.variance > 0:
            return {}
        shares = {c: variance / self._debiased_total for c, variance in self._debiased_variances.items()}
        return {c: (share, estimate.error({c: 1.0}, share) / self._debiased_total) for c, share in shares.items()}

    @cached_property
    def _debiased_variances(self) -> dict[tuple[int, ...], float]:
        assert self._cross_fit
        chosen = [c for order in (1, 2) for c in itertools.combinations(range(len(self._axes)), order)]
        return {c: max(self._cross_fit.effect(c).variance, 0.0) for c in chosen}

    @property
    def _debiased_total(self) -> float:
        """The parts of an ANOVA are orthogonal: none is below 0, and together they are no more than the whole."""
        assert self._cross_fit
        return max(self._cross_fit.total.variance, sum(self._debiased_variances.values()))

    def _grid(self, chosen: Sequence[int], points: int) -> tuple[list[list[Any]], list[Floats]]:
        expect(points >= 2, "points", points, "a whole number of at least 2")
        values = [self._axes[d].grid(points) for d in chosen]
        return values, [self._axes[d].quantile(v) for d, v in zip(chosen, values, strict=True)]

    def _marginals(self, chosen: Sequence[int], at: Sequence[Floats]) -> Floats:
        """[T, P_1, ..., P_k] of every tree at the quantiles `at`, [P_i] each in any order."""
        orders = [np.argsort(quantiles) for quantiles in at]
        ascending = [quantiles[order] for quantiles, order in zip(at, orders, strict=True)]
        places = np.ix_(np.arange(len(self._total)), *(np.argsort(order) for order in orders))
        return self._forest.marginal(chosen, ascending)[places]


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

    if score == "diverged":
        finished = has_result(frame)
        frame, cutoff = frame.assign(diverged=(frame["status"] == "diverged").astype(float)), 1.0
        bad = pd.Series(False, frame.index)
    else:
        finished = (frame["status"] == "finished") & np.isfinite(frame[score])
        bad = (frame["status"] == "diverged") & (score != "train_seconds") & (diverged == "cutoff")
    trials = frame[(finished | bad) & frame["variant"].isin(plan.variants)]
    _check_number(trials, score)
    variants = variants_of(trials)
    notes: list[str] = []
    architecture: dict[str, Mapping[str, Any]] = {}  # {dimension: {variant: value}}
    if by == "variant":
        expect(len(variants) > 1, "by", f"variant, with trials of {variants[0]} alone", "at least two variants")
        architecture = {"variant": {v: v for v in variants}}
    elif by == "toggles":
        architecture, variants, notes = _toggles(plan, variants)
        trials = trials[trials["variant"].isin(variants)]
        _check_number(trials, score)
    elif len(variants) > 1:
        notes.append(f"The trials of {len(variants)} variants are pooled.")
    others = "" if len(trials) == len(frame) else f"; {len(frame) - len(trials)} have no {score} that counts"
    notes.insert(0, f"{len(trials)} of {len(frame)} trials are used{others}.")

    scores = trials[score].where(finished)
    origin = "given"
    if cutoff is None:
        cutoff, origin = _cutoff(scores)
    n_cut, n_diverged = int((scores > cutoff).sum()), int(scores.isna().sum())
    text = f"{n_cut} worse trials are set to it, {n_diverged} diverged count as it"
    notes += [] if score == "diverged" else [f"Cutoff {cutoff:.6g} ({origin}): {text}."]

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
    return _fit(data, scores.to_numpy(), varying, n_trees, seed, drawn, cutoff, notes + absent, groups)


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

    return _fit(columns, scores, dimensions, n_trees, seed, drawn, float(scores.max()))


def _fit(
    columns: Sequence[ArrayLike],
    scores: Floats,
    dimensions: Sequence[Dimension],
    n_trees: int,
    seed: int,
    drawn: bool,
    cutoff: float,
    notes: Sequence[str] = (),
    groups: Ints | None = None,
) -> Fanova:
    expect(n_trees >= 2, "n_trees", n_trees, "a whole number of at least 2")
    axes = [Axis(d, column, scores) for d, column in zip(dimensions, columns, strict=True)]
    codes = np.column_stack([axis.encode(column) for axis, column in zip(axes, columns, strict=True)])
    codes = codes.astype(np.float32)
    forest = _grown(codes, scores, n_trees, seed)
    r2 = _out_of_bag_r2(forest, codes, scores)
    if np.ptp(scores) == 0:
        note = "All scores are equal: there is no variance to share."
    elif not r2 > 0:
        note = f"The forest predicts unseen trials no better than their mean (out-of-bag R\u00b2 {r2:.2f})."
    else:
        note = f"Out-of-bag R\u00b2 of the forest: {r2:.2f}."
    cross_fit = None
    groups = np.arange(len(scores)) if groups is None else groups
    if drawn and r2 > 0 and len(np.unique(groups)) >= 2 * MIN_TRIALS:
        settings = [np.asarray(column, dtype=object) for column in columns]
        points = np.column_stack([axis.quantile(own) for axis, own in zip(axes, settings, strict=True)])
        halves = _halves(axes, codes, points, scores, groups, n_trees, seed)
        cross_fit = CrossFit(halves, [axis.support() for axis in axes])
    return Fanova(axes, _boxes(forest, axes), len(scores), cutoff, r2, cross_fit, [*notes, note])


def _halves(
    axes: Sequence[Axis], codes: Any, points: Floats, scores: Floats, groups: Ints, n_trees: int, seed: int
) -> list[Half]:
    """Two forests of half of the trees each, of one half of the groups and with the other to be tried on.

    What a forest has learned of noise is not smooth, and cannot be put right: so leaves are as large as lets it predict
    those of its own trials best that its trees have not seen.
    """
    parts = np.array_split(np.random.default_rng(seed).permutation(np.unique(groups)), 2)
    halves = []
    for part in parts:
        unseen = np.isin(groups, part)
        own = codes[~unseen], scores[~unseen]
        tried = [_grown(*own, max(2, n_trees // 2), seed, min_samples_leaf=size) for size in LEAVES]
        forest = max(tried, key=lambda forest: np.nan_to_num(_out_of_bag_r2(forest, *own), nan=-np.inf))
        predicted = forest.predict(codes[unseen])
        variance = _variance(forest, axes, seed)
        halves.append(Half(_boxes(forest, axes), variance, points[unseen], predicted, scores[unseen], groups[unseen]))
    return halves


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


def _cutoff(scores: pd.Series) -> tuple[float, str]:
    """The default cutoff, and what it is."""
    box = stats.box(scores)
    expect(box["n"] > 0, "trials", "0 finished", "finished trials, or a cutoff for those that diverged")
    fence = stats.fence(scores)
    if box["q1"] < box["q3"] and fence < box["high"]:  # where most are equal, a fence would cut all others
        return fence, "Tukey's far-out fence" if fence > box["q3"] else "the far-out fence of the better half"
    return box["high"], "the worst that finished"


def _grown(codes: Any, scores: Floats, n_trees: int, seed: int, **options: Any) -> RandomForestRegressor:
    """A forest of trials: [n, D] codes, float32, and [n] scores, both finite."""
    with config_context(assume_finite=True, skip_parameter_validation=True):  # a third of the time of small forests
        return RandomForestRegressor(n_trees, random_state=seed, **FOREST | options).fit(codes, scores)


def _boxes(forest: RandomForestRegressor, axes: Sequence[Axis]) -> BoxForest:
    """A forest over quantiles."""
    trees, cuts = [estimator.tree_ for estimator in forest.estimators_], []
    for tree in trees:
        cut = np.zeros(tree.node_count)
        for d, axis in enumerate(axes):
            cut[tree.feature == d] = axis.cut(tree.threshold[tree.feature == d])
        cuts.append(cut)
    return BoxForest(trees, cuts, len(axes))


def _out_of_bag_r2(forest: RandomForestRegressor, codes: Any, scores: Floats) -> float:
    """R^2 of each trial's prediction by the trees that did not see it; NaN if the scores are equal.

    Args:
        codes: [n, D] of what the trees split.
        scores: [n]
    """
    total, n_trees = np.zeros(len(scores)), np.zeros(len(scores))
    for tree, bag in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        outside = np.ones(len(scores), dtype=bool)
        outside[bag] = False
        total[outside] += tree.tree_.predict(codes[outside])[:, 0]  # whose input needs no checks
        n_trees += outside
    seen = n_trees > 0
    spread = np.sum((scores[seen] - scores[seen].mean()) ** 2) if seen.any() else 0.0
    if spread == 0:
        return float("nan")
    return float(1 - np.sum((scores[seen] - total[seen] / n_trees[seen]) ** 2) / spread)


def _variance(forest: RandomForestRegressor, axes: Sequence[Axis], seed: int) -> float:
    """Of a forest's mean over the cube, at the points of a scrambled Sobol sequence."""
    quantiles = qmc.Sobol(len(axes), seed=seed).random_base2(N_POINTS)
    codes = [axis.code(column) for axis, column in zip(axes, quantiles.T, strict=True)]
    return float(forest.predict(np.column_stack(codes).astype(np.float32)).var())


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
    for name in [field.name for field in fields(made[kept[0]])] if kept else []:
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


def _mean_sd(values: Floats) -> tuple[float, float]:
    return stats.mean(values), stats.sd(values)


def _frame(axes: Sequence[Axis], values: Sequence[list[Any]], trees: Floats) -> pd.DataFrame:
    """A row a point of the grid of `values`: mean and sd of `trees` [T, ...]. Categories stay the objects they are."""
    columns = zip(*itertools.product(*values), strict=True)
    dtypes = [object if axis.dimension.values else None for axis in axes]
    names = [axis.dimension.name for axis in axes]
    frame = pd.DataFrame({n: pd.Series(c, dtype=t) for n, c, t in zip(names, columns, dtypes, strict=True)})
    return frame.assign(mean=trees.mean(axis=0).ravel(), sd=trees.std(axis=0, ddof=1).ravel())
