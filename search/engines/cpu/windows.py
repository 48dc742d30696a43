"""Which parts of its products a layer computes: tables for the kernels of a cell that reads constants of its units.

Of a product at one step a kernel computes one window, from the first column that counts to the last, over the rows of
operand elements that are not always 0. What is computed for all steps at once comes in parts: runs of columns that
count at the same steps, every so many from a first one on. Columns are taken by whole vectors, and rows by whole tiles,
so that units that move together had better stand together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from search.cells import Cell
from search.engines.cpu.layout import PARTS, WINDOW, Layout
from search.engines.cpu.llvm import ROW_TILE, Target
from search.engines.plan import Product, make_plan
from search.engines.use import Use, use

_AT_ONCE = 4096  # steps, for the memory that it takes to find what counts


@dataclass(frozen=True)
class Windows:
    """The tables of a layer.

    Attributes:
        steps: for each step and product the words `layout.WINDOW`, int64 [T, products * words].
        parts: for each product rows of the words `layout.PARTS`, int64; together they are its whole matrix. What does
            not count at any step has T as its first.
    """

    steps: np.ndarray
    parts: tuple[np.ndarray, ...]

    def words(self) -> dict[str, int | np.ndarray]:
        """The words of the layer's record that point at the tables, which the caller keeps alive."""
        words: dict[str, int | np.ndarray] = {"windows": self.steps}
        for p, parts in enumerate(self.parts):
            words |= {f"parts.{p}": parts, f"n_parts.{p}": len(parts)}
        return words


def windows(layout: Layout, cell: Cell, n_steps: int) -> Windows | None:
    """The tables of a layer for sequences of at most `n_steps` steps; None if everything counts."""
    if not layout.plan.partial:
        return None
    return _windows(cell, layout.target, layout.n_inputs, layout.n_units, n_steps)


@lru_cache(maxsize=1024)  # an epoch is a matter of milliseconds, and the next one of every member asks again
def _windows(cell: Cell, target: Target, n_inputs: int, n_units: int, n_steps: int) -> Windows:
    layout = Layout(make_plan(cell), target, n_inputs, n_units)
    constants, products = cell.constant_values(n_units), layout.plan.products
    read: list[list[np.ndarray]] = [[] for _ in products]
    heard = [np.zeros(layout.product_rows(product), bool) for product in products]
    for first in range(0, n_steps, _AT_ONCE):
        steps = np.arange(first, min(n_steps, first + _AT_ONCE)).astype(target.dtype)
        found = use(layout.plan, constants, steps)
        for p, product in enumerate(products):
            read[p].append(_vectors(layout, product, found))
            heard[p] |= found.heard.get(product.operand, True)
    by_product = [np.concatenate(each) for each in read]
    rows = [_rows(each) for each in heard]
    lanes = target.lanes
    steps = np.concatenate([_window(each, *at, lanes) for each, at in zip(by_product, rows, strict=True)], axis=1)
    parts = [list(_parts(each, *at, len(h), lanes)) for each, at, h in zip(by_product, rows, heard, strict=True)]
    return Windows(np.ascontiguousarray(steps), tuple(np.array(each, np.int64) for each in parts))


def _vectors(layout: Layout, product: Product, found: Use) -> np.ndarray:
    """Which vectors of a product's columns count at which steps, bool [steps, vectors]."""
    n_steps = len(next(iter(found.read.values())))
    columns = np.zeros((n_steps, layout.product_columns(product)), bool)
    for name, (_, place) in zip(product.preactivations, layout.blocks(product), strict=True):
        columns[:, place] = found.read[name]
    return np.asarray(columns.reshape(n_steps, -1, layout.target.lanes).any(axis=2))


def _rows(heard: np.ndarray) -> tuple[int, int]:
    """The first row that counts, and how many there are to the last, in whole tiles as far as there are rows."""
    places = np.flatnonzero(heard)
    if not len(places):
        return 0, 0
    first = int(places[0]) // ROW_TILE * ROW_TILE
    end = min(len(heard), (int(places[-1]) // ROW_TILE + 1) * ROW_TILE)
    return first, end - first


def _window(read: np.ndarray, row: int, n_rows: int, lanes: int) -> np.ndarray:
    """The words `layout.WINDOW` of a product, [T, words]."""
    some, n_vectors = read.any(axis=1), read.shape[1]
    first = np.where(some, read.argmax(axis=1), 0)
    end = np.where(some, n_vectors - read[:, ::-1].argmax(axis=1), 0)
    words = {"column": first * lanes, "width": end - first, "row": np.full_like(first, row)}
    words["rows"] = np.full_like(first, n_rows)
    return np.stack([words[name] for name in WINDOW], axis=1).astype(np.int64)


def _parts(read: np.ndarray, row: int, n_rows: int, all_rows: int, lanes: int) -> Iterator[list[int]]:
    """The parts of a product, each the words `layout.PARTS`."""
    n_steps, n_vectors = read.shape

    def part(row: int, n_rows: int, vector: int, width: int, first: int, every: int) -> list[int]:
        words = {"row": row, "rows": n_rows, "column": vector * lanes, "width": width, "first": first, "every": every}
        return [words[name] for name in PARTS]

    for start, end in ((0, row), (row + n_rows, all_rows)):
        if end > start:
            yield part(start, end - start, 0, n_vectors, n_steps, 1)
    if not n_rows:
        return
    when = [_steps(column) for column in read.T]
    start = 0
    for vector in range(1, n_vectors + 1):
        if vector == n_vectors or when[vector] != when[start]:
            yield part(row, n_rows, start, vector - start, *when[start])
            start = vector


def _steps(read: np.ndarray) -> tuple[int, int]:
    """The first step that counts, and the widest even spacing from it that misses none."""
    places = np.flatnonzero(read)
    if not len(places):
        return len(read), 1
    return int(places[0]), int(np.gcd.reduce(np.diff(places))) or len(read)
