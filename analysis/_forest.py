"""Regression trees as boxes of the unit cube, whose marginals and variances are finite sums."""

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
BLOCK = 2**22  # pairs of a point and a box that are looked at together


class BoxForest:
    """T regression trees over independent dimensions, each uniform on [0, 1].

    The leaves of a tree are boxes that fill the cube. The marginal of a tree over dimensions U, at a point of U, is the
    sum over the leaves that hold the point of their value times their extent in all other dimensions (Hutter et al.
    2014, section 4.1). It is constant on the cells that the tree's cuts make of U, so its variance is a sum too. The B
    boxes of all trees are in one array, so that each sum is one for all trees.

    Attributes:
        mean: [T] of each tree over the cube.
        variance: [T] of each tree over the cube.
    """

    def __init__(self, trees: Sequence[Any], cuts: Sequence[Floats], n_dimensions: int):
        """Reads the nodes of trees, the root of each first.

        Args:
            trees: of scikit-learn, ``tree_`` of its estimators.
            cuts: of each tree [nodes] where they split in [0, 1]: points of at most that go left.
            n_dimensions: of the cube.
        """
        sizes = np.array([tree.node_count for tree in trees])
        roots = np.cumsum(sizes) - sizes
        left, right = (
            np.concatenate([np.where(leads < 0, -1, leads + root) for leads, root in zip(own, roots, strict=True)])
            for own in ([tree.children_left for tree in trees], [tree.children_right for tree in trees])
        )
        feature, cut = np.concatenate([tree.feature for tree in trees]), np.concatenate(cuts)
        lower, upper = np.zeros((len(left), n_dimensions)), np.ones((len(left), n_dimensions))
        level = roots
        while len(level := level[left[level] >= 0]):
            for child, bound in ((left[level], upper), (right[level], lower)):
                lower[child], upper[child] = lower[level], upper[level]
                bound[child, feature[level]] = cut[level]
            level = np.concatenate([left[level], right[level]])

        leaves = left < 0
        value = np.concatenate([tree.value[:, 0, 0] for tree in trees])[leaves]
        self._n = len(trees)
        self._tree = np.repeat(np.arange(self._n), sizes)[leaves]  # [B] ascending
        self._lower, self._upper = lower[leaves], upper[leaves]  # [B, D]
        self._extent = self._upper - self._lower  # [B, D]
        volume = self._extent.prod(axis=1)
        self.mean = self._of_trees(volume * value)
        self._value = value - self.mean[self._tree]  # [B]; centred: a variance is no difference of large numbers
        self.variance = self._of_trees(volume * self._value**2)
        self._cells: dict[int, tuple[Ints, Ints, Floats]] = {}

    def marginal(self, dimensions: Sequence[int], points: Sequence[Floats]) -> Floats:
        """The marginal of each tree over `dimensions` at a grid.

        Args:
            dimensions: the k dimensions of U.
            points: for each an ascending array [P_i] in [0, 1].

        Returns:
            [T, P_1, ..., P_k]
        """
        above = _sum_over_boxes(self._weights(dimensions), self._tree, self._n, *self._spans(dimensions, points))
        return self.mean.reshape(-1, *[1] * len(points)) + above

    def average(self, dimensions: Sequence[int], points: Sequence[Floats]) -> Floats:
        """The mean of `marginal` over the trees, [P_1, ..., P_k], without those of each."""
        every = np.zeros_like(self._tree)
        above = _sum_over_boxes(self._weights(dimensions), every, 1, *self._spans(dimensions, points))[0]
        return np.asarray(self.mean.mean() + above / self._n, dtype=np.float64)

    def average_at(self, dimensions: Sequence[int], points: Floats) -> Floats:
        """[n] of the mean over the trees of their marginals over `dimensions`, at single points [n, k]."""
        weights, inside = self._weights(dimensions) / self._n, _inside(points)
        found = np.full(len(points), self.mean.mean())
        rows = max(1, BLOCK // len(weights))
        for start in range(0, len(points), rows):
            part = slice(start, start + rows)
            held = np.ones((len(inside[part]), len(weights)), dtype=bool)
            for d, at in zip(dimensions, inside[part].T, strict=True):
                held &= (at[:, None] > self._lower[:, d]) & (at[:, None] <= self._upper[:, d])
            found[part] += held @ weights
        return found

    def at(self, point: Floats) -> Floats:
        """[T] of the trees themselves at one point, [D]."""
        return self.mean + self._of_trees(np.where(self._holds(point).all(axis=1), self._value, 0.0))

    def along(self, dimension: int, point: Floats) -> tuple[Floats, Floats]:
        """The mean of the trees over one dimension, the others as they are at `point`, [D].

        Returns:
            [C + 1] edges of the intervals on which it is constant, from 0 to 1, and [C] its values.
        """
        held = np.delete(self._holds(point), dimension, axis=1).all(axis=1)
        lower, upper = self._lower[held, dimension], self._upper[held, dimension]
        edges = np.unique(np.concatenate([lower, upper]))
        starts, stops = np.searchsorted(edges, lower), np.searchsorted(edges, upper)
        every = np.zeros(len(lower), dtype=np.intp)
        above = _sum_over_boxes(self._value[held], every, 1, [starts], [stops], [len(edges) - 1])[0]
        return edges, self.mean.mean() + above / self._n

    def marginal_variance(self, dimensions: Sequence[int]) -> Floats:
        """[T] variance of the marginal over `dimensions`: that of U and of all its subsets together."""
        first, after, widths = zip(*(self._cells_along(d) for d in dimensions), strict=True)
        shape = [own.shape[1] for own in widths]
        if math.prod(shape) > self._most**2:
            return self._variance_by_pairs(dimensions)
        squares = _sum_over_boxes(self._weights(dimensions), self._tree, self._n, first, after, shape) ** 2
        for own in reversed(widths):
            squares = np.einsum("t...i,ti->t...", squares, own)
        return squares

    def splits(self, dimension: int) -> NDArray[np.bool_]:
        """[T] whether any node of a tree splits `dimension`."""
        return np.bincount(self._tree, self._extent[:, dimension] < 1, self._n) > 0

    @cached_property
    def _most(self) -> int:
        """Boxes of the largest tree."""
        return int(np.bincount(self._tree).max())

    def _of_trees(self, values: Floats) -> Floats:
        """[T] sums over the boxes of each tree of [B]."""
        return np.asarray(np.bincount(self._tree, values, self._n), dtype=np.float64)

    def _holds(self, point: Floats) -> NDArray[np.bool_]:
        """[B, D] whether a box holds a point along each dimension."""
        inside = _inside(point)
        return (inside > self._lower) & (inside <= self._upper)

    def _weights(self, dimensions: Sequence[int]) -> Floats:
        """[B] of value times extent in the dimensions that are averaged over."""
        return self._value * np.delete(self._extent, list(dimensions), axis=1).prod(axis=1)

    def _spans(self, dimensions: Sequence[int], points: Sequence[Floats]) -> tuple[list[Ints], list[Ints], list[int]]:
        """[k][B] the first point of a grid that each box holds, and the one after its last; the shape of the grid."""
        starts, stops = (
            [np.searchsorted(_inside(at), bounds[:, d], side="right") for d, at in zip(dimensions, points, strict=True)]
            for bounds in (self._lower, self._upper)
        )
        return starts, stops, [len(at) for at in points]

    def _cells_along(self, dimension: int) -> tuple[Ints, Ints, Floats]:
        """Of the cells that the cuts of each tree make of a dimension: [B] that a box begins with, [B] that follows its
        last, and [T, C] their widths, 0 beyond the last of a tree."""
        if dimension not in self._cells:
            edges = np.concatenate([self._lower[:, dimension], self._upper[:, dimension]])
            trees = np.tile(self._tree, 2)
            order = np.lexsort((edges, trees))
            edges, trees = edges[order], trees[order]
            begins = np.diff(trees, prepend=-1) > 0
            place = np.cumsum(begins | (np.diff(edges, prepend=-1.0) != 0)) - 1
            place -= place[begins][trees]
            ranks = np.empty_like(place)
            ranks[order] = place
            of_cells = np.ones((self._n, place.max() + 1))
            of_cells[trees, place] = edges
            first, after = np.split(ranks, 2)
            self._cells[dimension] = first, after, np.diff(of_cells, axis=1)
        return self._cells[dimension]

    def _variance_by_pairs(self, dimensions: Sequence[int]) -> Floats:
        """The same over pairs of leaves, for U of so many cells that they are more: the mean of a product of boxes
        is the extent of their overlap."""
        weights, variance = self._weights(dimensions), np.empty(self._n)
        for tree in range(self._n):
            own = slice(*np.searchsorted(self._tree, [tree, tree + 1]))
            overlap = np.outer(weights[own], weights[own])  # [L, L]
            for d in dimensions:
                low = np.maximum.outer(self._lower[own, d], self._lower[own, d])
                overlap *= np.maximum(np.minimum.outer(self._upper[own, d], self._upper[own, d]) - low, 0.0)
            variance[tree] = overlap.sum()
        return variance


def _inside(points: Floats) -> Floats:
    """Boxes are open below, except that 0 is in the first."""
    return np.maximum(points, np.finfo(float).tiny)


def _sum_over_boxes(
    weights: Floats, trees: Ints, n_trees: int, starts: Sequence[Ints], stops: Sequence[Ints], shape: Sequence[int]
) -> Floats:
    """[T, *shape] of the sum of the weights of a tree's boxes, ``starts <= index < stops``, that hold each cell.

    By the signed corners of the boxes, summed up along each axis: its cost is that of the cells plus that of the boxes.
    """
    places, signed = [], []
    for corner in itertools.product(*zip(starts, stops, strict=True)):
        odd = sum(index is stop for index, stop in zip(corner, stops, strict=True)) % 2
        inside = np.logical_and.reduce([index < n for index, n in zip(corner, shape, strict=True)])
        places.append(np.ravel_multi_index([index[inside] for index in (trees, *corner)], (n_trees, *shape)))
        signed.append(-weights[inside] if odd else weights[inside])
    sums = np.bincount(np.concatenate(places), np.concatenate(signed), n_trees * math.prod(shape))
    grid = np.asarray(sums, dtype=np.float64).reshape(n_trees, *shape)
    for axis in range(1, grid.ndim):
        np.cumsum(grid, axis=axis, out=grid)
    return grid
