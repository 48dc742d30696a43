"""Regression trees as boxes of the unit cube, whose marginals and variances are finite sums."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


class BoxTree:
    """A regression tree over independent dimensions, each uniform on [0, 1].

    Its leaves are L boxes that fill the cube. The marginal over dimensions U, at a point of U, is the sum over the
    leaves that hold the point of their value times their extent in all other dimensions (Hutter et al. 2014,
    section 4.1). It is constant on the cells that the tree's cuts make of U, so its variance is a sum too.

    Attributes:
        mean: of the tree over the cube.
        variance: of the tree over the cube.
    """

    def __init__(self, left: Ints, right: Ints, feature: Ints, cut: Floats, value: Floats, n_dimensions: int):
        """Reads the nodes of a tree, the root first.

        Args:
            left, right: [nodes] children of each node; below 0 at a leaf.
            feature: [nodes] dimension that a node splits.
            cut: [nodes] where it does: points of at most `cut` go left.
            value: [nodes] prediction of a leaf.
            n_dimensions: of the cube.
        """
        lower, upper = np.zeros((len(left), n_dimensions)), np.ones((len(left), n_dimensions))
        level = np.zeros(1, dtype=np.intp)
        while len(level := level[left[level] >= 0]):
            for child, bound in ((left[level], upper), (right[level], lower)):
                lower[child], upper[child] = lower[level], upper[level]
                bound[child, feature[level]] = cut[level]
            level = np.concatenate([left[level], right[level]])

        leaves = left < 0
        self._lower, self._upper = lower[leaves], upper[leaves]  # [L, D]
        self._extent = self._upper - self._lower  # [L, D]
        volume = self._extent.prod(axis=1)
        self.mean = float(volume @ value[leaves])
        self._value = value[leaves] - self.mean  # [L]; centred, so that a variance is no difference of large numbers
        self.variance = float(volume @ self._value**2)
        self._edges = [np.unique(np.append(cut[~leaves & (feature == d)], [0.0, 1.0])) for d in range(n_dimensions)]
        # [D][L] cells along each dimension that a box begins with, and that follows its last
        self._first = [np.searchsorted(edges, self._lower[:, d]) for d, edges in enumerate(self._edges)]
        self._after = [np.searchsorted(edges, self._upper[:, d]) for d, edges in enumerate(self._edges)]

    def marginal(self, dimensions: Sequence[int], points: Sequence[Floats]) -> Floats:
        """The marginal over `dimensions` at a grid.

        Args:
            dimensions: the k dimensions of U.
            points: for each an ascending array [P_i] in [0, 1].

        Returns:
            [P_1, ..., P_k]
        """
        starts, stops = [], []
        for d, at in zip(dimensions, points, strict=True):
            inside = np.maximum(at, np.finfo(float).tiny)  # boxes are open below, except that 0 is in the first
            starts.append(np.searchsorted(inside, self._lower[:, d], side="right"))
            stops.append(np.searchsorted(inside, self._upper[:, d], side="right"))
        return self.mean + _sum_over_boxes(self._weights(dimensions), starts, stops, [len(at) for at in points])

    def steps(self, dimensions: Sequence[int]) -> "Steps":
        """The marginal over `dimensions` as a whole. Its cells are as many as the products of the cuts along each."""
        edges = [self._edges[d] for d in dimensions]
        starts, stops = ([ends[d] for d in dimensions] for ends in (self._first, self._after))
        sums = _sum_over_boxes(self._weights(dimensions), starts, stops, [len(e) - 1 for e in edges])
        return Steps(self.mean, edges, sums)

    def along(self, dimension: int, point: Floats) -> "Steps":
        """The tree itself over one dimension, the others as they are at `point`, [D]."""
        inside = np.maximum(point, np.finfo(float).tiny)
        apart = (inside <= self._lower) | (inside > self._upper)
        apart[:, dimension] = False
        held = np.flatnonzero(~apart.any(axis=1))
        starts, stops = self._first[dimension][held], self._after[dimension][held]
        edges = self._edges[dimension]
        return Steps(self.mean, [edges], _sum_over_boxes(self._value[held], [starts], [stops], [len(edges) - 1]))

    def marginal_variance(self, dimensions: Sequence[int]) -> float:
        """Variance of the marginal over `dimensions`: that of U and of all its subsets together."""
        n_cells = math.prod(len(self._edges[d]) - 1 for d in dimensions)
        if n_cells > len(self._value) ** 2:
            return self._variance_by_pairs(dimensions, self._weights(dimensions))
        return self.steps(dimensions).variance()

    def splits(self, dimension: int) -> bool:
        """Whether any node splits `dimension`."""
        return len(self._edges[dimension]) > 2

    def _weights(self, dimensions: Sequence[int]) -> Floats:
        """[L] of value times extent in the dimensions that are averaged over."""
        return self._value * np.delete(self._extent, list(dimensions), axis=1).prod(axis=1)

    def _variance_by_pairs(self, dimensions: Sequence[int], weights: Floats) -> float:
        """The same over pairs of leaves, for U of so many cells that they are more: the mean of a product of boxes
        is the extent of their overlap."""
        overlap = np.outer(weights, weights)  # [L, L]
        for d in dimensions:
            low = np.maximum.outer(self._lower[:, d], self._lower[:, d])
            overlap *= np.maximum(np.minimum.outer(self._upper[:, d], self._upper[:, d]) - low, 0.0)
        return float(overlap.sum())


@dataclass(frozen=True)
class Steps:
    """A function that is constant on each cell of a grid of the unit cube.

    Attributes:
        mean: of the function.
        edges: of the cells along each of the k dimensions, from 0 to 1.
        above: [C_1, ..., C_k] by how much it is above the mean in each cell.
    """

    mean: float
    edges: list[Floats]
    above: Floats

    def variance(self) -> float:
        """Of the function over the cube."""
        *outer, last = (np.diff(e) for e in self.edges)
        squares = np.einsum("...i,...i,i->...", self.above, self.above, last)
        for widths in reversed(outer):
            squares = squares @ widths
        return float(squares)

    def at(self, points: Floats) -> Floats:
        """[n] of its values at single points, [n, k]."""
        return self.mean + self.above[tuple(self._cells(points.T))]

    def grid(self, points: Sequence[Floats]) -> Floats:
        """[P_1, ..., P_k] of its values on a grid, from [P_i] along each dimension."""
        return self.mean + self.above[np.ix_(*self._cells(points))]

    def _cells(self, points: Iterable[Floats]) -> list[Ints]:
        """Cells are open below, except that 0 is in the first."""
        return [np.maximum(np.searchsorted(e, at) - 1, 0) for e, at in zip(self.edges, points, strict=True)]


def _sum_over_boxes(weights: Floats, starts: list[Ints], stops: list[Ints], shape: list[int]) -> Floats:
    """[shape] of the sum of the weights of the boxes, ``starts <= index < stops``, that hold each cell.

    By the signed corners of the boxes, summed up along each axis: its cost is that of the cells plus that of the boxes.
    """
    places, signed = [], []
    for corner in itertools.product(*zip(starts, stops, strict=True)):
        odd = sum(index is stop for index, stop in zip(corner, stops, strict=True)) % 2
        inside = np.flatnonzero(np.logical_and.reduce([index < n for index, n in zip(corner, shape, strict=True)]))
        places.append(np.ravel_multi_index([index[inside] for index in corner], shape))
        signed.append(-weights[inside] if odd else weights[inside])
    sums = np.bincount(np.concatenate(places), np.concatenate(signed), math.prod(shape))
    grid = np.asarray(sums, dtype=np.float64).reshape(shape)
    for axis in range(len(shape)):
        np.cumsum(grid, axis=axis, out=grid)
    return grid
