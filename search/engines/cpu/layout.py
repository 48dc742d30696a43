"""How a compiled CPU engine lays out one layer in memory, and the records through which it tells its kernels.

Matrices with the same operand lie side by side, transposed: row k of the block of a `Product` is what operand element
k adds to each of its columns. A row of columns has one run of n_units numbers for each pre-activation; each segment of
the plan starts on a cache line. Rows lie an odd number of cache lines apart, because at a power of two the rows of a
tile would compete for the same few sets of the cache.
"""

import contextlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.cells import Cell
from search.engines.cpu.llvm import LINE_BYTES, ROW_TILE, Target
from search.engines.plan import Plan, Product

# Rows that kernels may touch before and after those of a buffer, when they compute a whole last tile.
GUARD = ROW_TILE

_LARGE_PAGE = 2**21

# The arrays that have the layout of the parameters and words of their own in the records. Those of the update's slots
# have none: they lie behind the weights, each as far from the one before.
KINDS = ("weights", "gradients")

JOB = (
    *("n_sequences", "order", "starts", "lengths", "inputs", "n_inputs", "n_outputs", "n_levels", "n_directions"),
    *("targets", "target_starts", "target_lengths", "scratch", "best"),
    *("layers", "logits", "logit_stride", "logit_width", "noisy", "zeros", "stop", "train"),
    *("bias_weights", "bias_gradients", "slot_distance", "shared", "n_shared", "scale_place"),
    *("noise", "seed", "epoch", "loss"),
)
# Where products count in part (`search.engines.cpu.windows`): what of one does at a step, and a part of its matrix.
WINDOW = ("column", "width", "row", "rows")
PARTS = ("row", "rows", "column", "width", "first", "every")
UNROLL = ("layer", "n_steps", "n_batch", "x", "tape", "tape_size", "dy", "dy_size", "dx", "dx_stride", "transposed")


def layer_fields(plan: Plan) -> tuple[str, ...]:
    """Names of the words of a layer's record."""
    return (
        *("n_inputs", "n_units", "unit_stride", "tape", "tape_stride", "columns", "column_stride", "zeros"),
        *("carry", "fed", "dy", "vector_weights", "vector_gradients", "constants", "summed", "means"),
        *("below", "below_stride", "d_below", "d_below_stride", "from_above", "from_above_stride", "nothing"),
        *("out_weights", "out_gradients", "out_transposed", "heard"),
        *("inputs", "d_inputs", "input_stride", "in_transposed", "outputs", "d_outputs", "output_stride"),
        *(f"column.{name}" for name in plan.preactivations),
        *(f"segment_width.{s}" for s in range(len(plan.segments))),
        *(f"{word}.{p}" for p in range(len(plan.products)) for word in (*KINDS, "stride", "width")),
        *(("owns",) if plan.tied else ()),
        *(("windows",) if plan.partial else ()),
        *(f"{word}.{p}" for p in range(len(plan.products)) if plan.partial for word in ("parts", "n_parts")),
    )


class Record:
    """A record of 64-bit words by name, for a kernel to read."""

    def __init__(self, fields: Sequence[str]):
        self._place = {name: place for place, name in enumerate(fields)}
        self._words = np.zeros(len(fields), np.int64)

    def set(self, **values: int | float | np.ndarray) -> None:
        """Sets words: an integer, a float as double, or the address of an array, which the caller keeps alive."""
        for name, value in values.items():
            place = self._place[name]
            if isinstance(value, np.ndarray):
                self._words[place] = value.ctypes.data
            elif isinstance(value, float):
                self._words.view(np.float64)[place] = value
            else:
                self._words[place] = value

    def double(self, name: str) -> float:
        return float(self._words.view(np.float64)[self._place[name]])

    @property
    def words(self) -> np.ndarray:
        return self._words

    @property
    def address(self) -> int:
        return self._words.ctypes.data


# Rows and stride of arrays, by name.
Shapes = Mapping[str, tuple[int, int]]


class Arena:
    """One buffer for all arrays of a layer, kept for the next use, so that a thread asks for memory once."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)

    def take(self, groups: Sequence[Shapes], dtype: np.dtype) -> list[dict[str, np.ndarray]]:
        """Arrays of zeros [rows, stride] by name, for each group of shapes; what was taken before is void.

        Each has `GUARD` rows before and after it. The groups follow one another.
        """
        sizes = [[LINE_BYTES * lines(shape, dtype) for shape in group.values()] for group in groups]
        total = sum(map(sum, sizes))
        if len(self._buffer) < total:
            self._buffer = _large_pages(total)
        start = 0
        self._buffer[start : start + total] = 0
        taken = []
        for group, group_sizes in zip(groups, sizes, strict=True):
            arrays = {}
            for (name, (rows, stride)), size in zip(group.items(), group_sizes, strict=True):
                first = start + GUARD * stride * dtype.itemsize
                arrays[name] = self._buffer[first : first + rows * stride * dtype.itemsize].view(dtype)
                arrays[name].shape = rows, stride
                start += size
            taken.append(arrays)
        return taken


def lines(shape: tuple[int, int], dtype: np.dtype) -> int:
    """Cache lines of an array of rows and stride, with its guards."""
    rows, stride = shape
    return -(-(rows + 2 * GUARD) * stride * dtype.itemsize // LINE_BYTES)


def _large_pages(size: int) -> np.ndarray:
    """Memory in large pages where the system has them: weights then spread evenly over the sets of the cache."""
    size = -(-size // _LARGE_PAGE) * _LARGE_PAGE
    area = mmap.mmap(-1, size + _LARGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            area.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(area, np.uint8)
    start = -whole.ctypes.data % _LARGE_PAGE
    return whole[start : start + size]


def guarded(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A copy of `rows` [n, width] in another dtype, with zeros before and after it that kernels may read."""
    # A vector may also reach over the end of the last guard row, where rows are short.
    guard = GUARD + LINE_BYTES // rows.shape[1] + 1
    whole = np.zeros((len(rows) + 2 * guard, rows.shape[1]), dtype)
    whole[guard : guard + len(rows)] = rows
    return whole[guard : guard + len(rows)]


@dataclass(frozen=True)
class Layout:
    """The layout of a layer of `n_units` units with `n_inputs` inputs. All numbers count numbers, not bytes."""

    plan: Plan
    target: Target
    n_inputs: int
    n_units: int

    @property
    def line(self) -> int:
        """Numbers in a cache line."""
        return LINE_BYTES // self.target.itemsize

    def padded(self, count: int) -> int:
        """`count` in whole cache lines."""
        return -(-count // self.line) * self.line

    def stride(self, count: int) -> int:
        """Distance of rows of `count` numbers: whole cache lines, and an odd number of them."""
        return (self.padded(count) // self.line | 1) * self.line

    @cached_property
    def unit_stride(self) -> int:
        """Length of one slot of the tape, and of a vector of one number for each unit."""
        return self.padded(self.n_units)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Column of the first unit of each pre-activation."""
        columns: dict[str, int] = {}
        start = 0
        for segment in self.plan.segments:
            columns |= {name: start + place * self.n_units for place, name in enumerate(segment)}
            start += self.padded(len(segment) * self.n_units)
        return columns

    @cached_property
    def column_stride(self) -> int:
        return self.stride(sum(self.padded(len(segment) * self.n_units) for segment in self.plan.segments))

    @cached_property
    def tape_stride(self) -> int:
        return self.stride(len(self.plan.tape) * self.unit_stride)

    @cached_property
    def below_stride(self) -> int:
        """Of the loss's derivative by what the layer reads of the state of the layer below it."""
        return self.stride(len(self.plan.below) * self.unit_stride)

    @property
    def input_stride(self) -> int:
        """Of what a layer hears of the layer below it."""
        return self.stride(self.n_inputs)

    def product_columns(self, product: Product) -> int:
        """Columns of a product's block, whole cache lines."""
        first, last = (self.columns[product.preactivations[place]] for place in (0, -1))
        return self.padded(last + self.n_units - first)

    def product_rows(self, product: Product) -> int:
        """Size of a product's operand."""
        return self.n_inputs if product.operand == "x" else self.n_units

    def blocks(self, product: Product) -> Iterator[tuple[str, slice]]:
        """The matrices of a product, and the columns of its block that hold each, transposed."""
        first = self.columns[product.preactivations[0]]
        for name, matrix in zip(product.preactivations, product.matrices, strict=True):
            start = self.columns[name] - first
            yield matrix, slice(start, start + self.n_units)

    def sizes(self) -> dict[str, int]:
        """The words of the layer's record that are sizes and strides."""
        words = {
            "n_inputs": self.n_inputs,
            "n_units": self.n_units,
            "unit_stride": self.unit_stride,
            "tape_stride": self.tape_stride,
            "column_stride": self.column_stride,
            "input_stride": self.input_stride,
            "d_below_stride": self.below_stride,
        }
        words |= {f"column.{name}": column for name, column in self.columns.items()}
        for s, segment in enumerate(self.plan.segments):
            words[f"segment_width.{s}"] = self.padded(len(segment) * self.n_units) // self.target.lanes
        for p, product in enumerate(self.plan.products):
            columns = self.product_columns(product)
            words |= {f"stride.{p}": self.stride(columns), f"width.{p}": columns // self.target.lanes}
        return words

    def buffers(self, n_steps: int) -> dict[str, tuple[int, int]]:
        """Rows and stride of the layer's arrays but its parameters, by the word of its record that points at each."""
        plan, unit_stride = self.plan, self.unit_stride
        return {
            "tape": (n_steps + 1, self.tape_stride),
            "columns": (n_steps, self.column_stride),
            "carry": (len(plan.state), unit_stride),
            "fed": (len(plan.products), unit_stride),
            "constants": (len(plan.constants), unit_stride),
            "summed": (len(plan.means), unit_stride),
            "means": (1, self.padded(len(plan.means))),
            "d_below": (n_steps if plan.below else 0, self.below_stride),
            "nothing": (1 if plan.below else 0, max(self.tape_stride, self.below_stride)),
            "zeros": (1, max(self.column_stride, unit_stride, self.padded(self.n_inputs))),
        }

    def parameters(self, kind: str) -> dict[str, tuple[int, int]]:
        """The same for the arrays of one kind that hold what there is of each parameter: weights, gradients, ..."""
        shapes = {f"vector_{kind}": (len(self.plan.vectors), self.unit_stride)}
        for p, product in enumerate(self.plan.products):
            shapes[f"{kind}.{p}"] = self.product_rows(product), self.stride(self.product_columns(product))
        return shapes

    def output_parameters(self, kind: str, n_outputs: int) -> dict[str, tuple[int, int]]:
        """The same for the layer's part of the output layer."""
        return {f"out_{kind}": (self.n_units, self.stride(n_outputs))}

    def output_buffers(self, n_steps: int, n_outputs: int) -> dict[str, tuple[int, int]]:
        """The same as `buffers` for what the output layer needs besides."""
        return {"out_transposed": (n_outputs, self.unit_stride), "dy": (n_steps, self.unit_stride)}

    def between(self, n_steps: int) -> dict[str, tuple[int, int]]:
        """The same for what both directions of a layer hear of the layer below it, and the loss's derivative by it."""
        return dict.fromkeys(("inputs", "d_inputs"), (n_steps, self.input_stride))

    def input_buffers(self) -> dict[str, tuple[int, int]]:
        """The same for what that derivative takes besides."""
        return {"in_transposed": (max(map(self.product_columns, self.plan.inputs), default=0), self.input_stride)}

    def neighbours(
        self,
        own: Mapping[str, np.ndarray],
        below: Mapping[str, np.ndarray] | None = None,
        above: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, int | np.ndarray]:
        """The words of the layer's record that point at the state of the layer below and at the loss's derivative by
        its own that comes from the layer above, given the arrays of all three; zeros where there is no such layer."""
        return {
            "below": own["nothing"] if below is None else below["tape"][1:],
            "below_stride": 0 if below is None else self.tape_stride,
            "from_above": own["nothing"] if above is None else above["d_below"],
            "from_above_stride": 0 if above is None else self.below_stride,
        }

    def fill_constants(self, arrays: Mapping[str, np.ndarray], cell: Cell) -> None:
        """Writes the constants of a cell where its kernels look for them."""
        if self.plan.constants:
            arrays["constants"][:, : self.n_units] = list(cell.constant_values(self.n_units).values())

    def views(self, arrays: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
        """The layer's parameters in its arrays, by name, in the shapes of `Cell.parameters`; `kind` is weights, ..."""
        views = {}
        for p, product in enumerate(self.plan.products):
            block = arrays[f"{kind}.{p}"]
            for matrix, columns in self.blocks(product):
                views[matrix] = block[:, columns].T
        rows = arrays[f"vector_{kind}"]
        return views | {name: row[: self.n_units] for name, row in zip(self.plan.vectors, rows, strict=True)}
