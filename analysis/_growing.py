"""Growing the forests of a functional ANOVA."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import qmc
from sklearn import config_context
from sklearn.tree import DecisionTreeRegressor

from analysis._axis import Axis
from analysis._debiased import CrossFit, Half
from analysis._decomposition import Fanova
from analysis._forest import BoxForest, Floats, Ints
from search.errors import expect
from search.study.space import Dimension

N_TREES = 100
MIN_TRIALS = 8
# With fewer features than all, trees must split on settings of no effect, which costs the main effects most. Leaves of
# one trial learn all of its noise; larger leaves blur what is there.
MIN_LEAF = 2
LEAVES = (2, 6)  # sizes of the smallest leaf that forests of half of the trials choose from
N_POINTS = 13  # two to the power of this, at which a forest's variance over all dimensions is measured


class Forest:
    """Regression trees, each of a bootstrap sample of the trials; without that all would be the same.

    The trees, and so all numbers, are those of scikit-learn's ``RandomForestRegressor(n_trees, random_state=seed,
    min_samples_leaf=min_leaf)``, which for a few hundred trials spends three quarters of its time on copies of
    parameters and on drawing the samples again.

    Attributes:
        trees: [T]
        unseen: [T, n] which trials are in no leaf of a tree.
    """

    def __init__(self, codes: Any, scores: Floats, n_trees: int, seed: int, min_leaf: int = MIN_LEAF):
        """
        Args:
            codes: [n, D] of what the trees split, float32 and finite.
            scores: [n] finite.
            n_trees, seed, min_leaf: trees, what they are drawn by, trials in the smallest leaf.
        """
        n = len(scores)
        codes, target = np.ascontiguousarray(codes), np.ascontiguousarray(scores, dtype=np.float64)[:, None]
        seeds, state = np.random.RandomState(seed), np.random.RandomState()
        self.trees: list[DecisionTreeRegressor] = []
        self.unseen = np.empty((n_trees, n), dtype=bool)
        with config_context(assume_finite=True, skip_parameter_validation=True):
            for unseen in self.unseen:
                own = int(seeds.randint(np.iinfo(np.int32).max))
                state.seed(own)  # a new state for each, as of a number, would take as long as the tree
                drawn = np.bincount(state.randint(0, n, n), minlength=n)
                np.equal(drawn, 0, out=unseen)
                state.seed(own)
                tree = DecisionTreeRegressor(min_samples_leaf=min_leaf, max_features=1.0, random_state=state)
                self.trees.append(tree.fit(codes, target, sample_weight=drawn, check_input=False))

    def predict(self, codes: Any) -> Floats:
        """[m] mean over the trees at codes, [m, D] float32."""
        total = np.zeros(len(codes))
        for tree in self.trees:
            total += tree.tree_.predict(codes)[:, 0]  # whose input needs no checks
        return total / len(self.trees)

    def out_of_bag_r2(self, codes: Any, scores: Floats) -> float:
        """R^2 of each trial's prediction by the trees that did not see it; NaN if the scores are equal.

        Args:
            codes, scores: that it was grown from.
        """
        total, n_trees = np.zeros(len(scores)), self.unseen.sum(axis=0)
        for tree, unseen in zip(self.trees, self.unseen, strict=True):
            total[unseen] += tree.tree_.predict(codes[unseen])[:, 0]
        seen = n_trees > 0
        spread = np.sum((scores[seen] - scores[seen].mean()) ** 2) if seen.any() else 0.0
        if spread == 0:
            return float("nan")
        return float(1 - np.sum((scores[seen] - total[seen] / n_trees[seen]) ** 2) / spread)


def decomposed(
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
    """Of [n] settings of each dimension and their scores, which are checked and cut; see `analysis.fanova.from_arrays`.

    Args:
        cutoff, notes: for the result to tell.
        groups: [n] which trials belong together, so that no half of the trials has some of a group; each its own if
            None.
    """
    expect(n_trees >= 2, "n_trees", n_trees, "a whole number of at least 2")
    axes = [Axis(d, column, scores) for d, column in zip(dimensions, columns, strict=True)]
    codes = np.column_stack([axis.encode(column) for axis, column in zip(axes, columns, strict=True)])
    codes = codes.astype(np.float32)
    forest = Forest(codes, scores, n_trees, seed)
    r2 = forest.out_of_bag_r2(codes, scores)
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
        tried = [Forest(*own, max(2, n_trees // 2), seed, min_leaf) for min_leaf in LEAVES]
        forest = max(tried, key=lambda forest: np.nan_to_num(forest.out_of_bag_r2(*own), nan=-np.inf))
        predicted = forest.predict(codes[unseen])
        variance = _variance(forest, axes, seed)
        halves.append(Half(_boxes(forest, axes), variance, points[unseen], predicted, scores[unseen], groups[unseen]))
    return halves


def _boxes(forest: Forest, axes: Sequence[Axis]) -> BoxForest:
    """A forest over quantiles."""
    trees, cuts = [tree.tree_ for tree in forest.trees], []
    for tree in trees:
        cut = np.zeros(tree.node_count)
        for d, axis in enumerate(axes):
            cut[tree.feature == d] = axis.cut(tree.threshold[tree.feature == d])
        cuts.append(cut)
    return BoxForest(trees, cuts, len(axes))


def _variance(forest: Forest, axes: Sequence[Axis], seed: int) -> float:
    """Of a forest's mean over the cube, at the points of a scrambled Sobol sequence."""
    quantiles = qmc.Sobol(len(axes), seed=seed).random_base2(N_POINTS)
    codes = [axis.code(column) for axis, column in zip(axes, quantiles.T, strict=True)]
    return float(forest.predict(np.column_stack(codes).astype(np.float32)).var())
