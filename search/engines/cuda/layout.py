"""How the CUDA engine lays out a member: in a block's part of global memory, and in the block's shared memory.

All numbers count numbers, not bytes. In global memory a block's part (its slot) holds, one after the other:

- the parameters, and after them each slot of the update in the same order: for each direction the matrices of the
  products with the input, those of the other products, the biases and per-unit parameters, and the output layer's
  matrix; then the output layer's bias. Matrices with the same operand lie side by side and transposed, as on the CPU:
  row k of a block is what operand element k adds to each column, so that neighbouring threads read neighbouring
  numbers;
- the noisy input [T, M] and the logits [T, O] of the sequence under way;
- for each direction: its tape [T + 1, slots * N], columns [T, pre-activations * N], d loss / d y [T, N], and those
  recurrent matrices that found no place in shared memory once more, transposed, for the backward step.

In shared memory: two words for messages, the vectors of each direction, an area that the phases of a sequence use in
turn, and the first rows of each recurrent matrix, as many as there is room for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from search.engines.plan import Plan, Product

JOB = (
    *("n_units", "n_inputs", "n_outputs", "n_directions", "n_parameters", "vector", "n_sequences", "seed", "epoch"),
    *("chip", "first_copy", "n_copies", "mats", "x", "logits", "layers", "layer_size", "columns", "dy", "transposed"),
)
UNROLL = (
    *("n_units", "n_steps", "chip", "mats", "weights", "transposed", "vectors"),
    *("columns", "column_size", "tape", "tape_size", "dy", "dy_size", "gradients"),
)
COPY = ("source", "source_stride", "n_rows", "n_columns", "target", "target_stride")
MESSAGES = 2


@dataclass(frozen=True)
class Tiles:
    """How a block divides a matrix product, and the sizes of block there are.

    A block computes a tile of `rows` * `micro` rows and (threads / `rows`) * `micro` columns at a time, each thread
    `micro` * `micro` numbers of it in registers, from pieces `rows` deep in shared memory.

    Attributes:
        rows: a power of two.
        micro: numbers of a thread in each direction.
        threads: for each size of block, the most bytes of recurrent matrices for which it is chosen.
    """

    rows: int
    micro: int
    threads: tuple[tuple[int, float], ...]


# 512 threads, with the 128 registers that leaves each, fill a multiprocessor. A member whose matrices take most of
# the shared memory has one to itself; smaller ones share it with others, which hides the latency of each.
HARDWARE = Tiles(16, 4, ((128, 24 * 1024), (256, 90 * 1024), (512, float("inf"))))


def recurrent(plan: Plan) -> tuple[Product, ...]:
    """The products with the state, then those with what the step passes."""
    return plan.products[len(plan.inputs) :]


def operands(plan: Plan) -> tuple[str, ...]:
    """The operands of the recurrent products, each once."""
    return tuple(dict.fromkeys(product.operand for product in recurrent(plan)))


def passed(plan: Plan) -> tuple[str, ...]:
    """Those of `operands` that the step passes."""
    return tuple(operand for operand in operands(plan) if "." in operand)


@dataclass(frozen=True)
class Layout:
    """The layout of a member.

    Attributes:
        plan, n_inputs, n_units, n_outputs, n_directions: of its network.
        n_steps: of the longest sequence.
        itemsize: bytes of a number.
        shared_bytes: shared memory that a block may have.
        tiles: how blocks divide their work.
        n_slots: of the update.
    """

    plan: Plan
    n_inputs: int
    n_units: int
    n_outputs: int
    n_directions: int
    n_steps: int
    itemsize: int
    shared_bytes: int
    tiles: Tiles = HARDWARE
    n_slots: int = 0

    @cached_property
    def threads(self) -> int:
        """Threads of the block. They depend on the member alone, so that its results do."""
        needed = self.n_directions * self.row_width * self.n_units * self.itemsize
        return next(threads for threads, most in self.tiles.threads if needed <= most)

    @property
    def shares(self) -> int:
        """Threads among which a recurrent sum is divided."""
        return max(1, self.threads // self.n_units)

    # Shared memory

    def stride(self, product: Product) -> int:
        """Distance of a matrix's rows in shared memory: odd, so that neither rows nor columns meet in one bank."""
        return len(product.preactivations) * self.n_units | 1

    @cached_property
    def row_width(self) -> int:
        """Shared memory for one row of every recurrent matrix of a direction."""
        return sum(map(self.stride, recurrent(self.plan)))

    @cached_property
    def mats(self) -> int:
        """Where in shared memory the matrices begin."""
        plan, n = self.plan, self.n_units
        columns, vectors = len(plan.preactivations) * n, len(plan.vectors) * n
        state = len(plan.state) * n
        forward = state + len(passed(plan)) * n + self.shares * columns
        backward = state + vectors + columns + self.shares * len(operands(plan)) * n
        rows, micro = self.tiles.rows, self.tiles.micro
        product = rows * (rows * micro + 1) + rows * (self.threads // rows * micro + 1)
        return MESSAGES + self.n_directions * vectors + max(forward, backward, product)

    @cached_property
    def chip(self) -> int:
        """Rows of each recurrent matrix that are kept in shared memory."""
        room = self.shared_bytes // self.itemsize - self.mats
        if not self.row_width:
            return 0
        return max(0, min(self.n_units, room // (self.n_directions * self.row_width)))

    @property
    def shared_used(self) -> int:
        """Bytes of shared memory."""
        return (self.mats + self.n_directions * self.chip * self.row_width) * self.itemsize

    # Global memory

    @property
    def n_recurrent_columns(self) -> int:
        return sum(len(product.preactivations) for product in recurrent(self.plan))

    @property
    def layer_parameters(self) -> int:
        """Parameters of one direction, its part of the output layer among them."""
        columns = sum(len(product.preactivations) for product in self.plan.inputs) * self.n_inputs
        columns += self.n_recurrent_columns * self.n_units + len(self.plan.vectors) + self.n_outputs
        return columns * self.n_units

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Sizes of the parts of a direction's memory, in order."""
        n, steps = self.n_units, self.n_steps
        return {
            "tape": (steps + 1) * len(self.plan.tape) * n,
            "columns": steps * len(self.plan.preactivations) * n,
            "dy": steps * n,
            "transposed": self.n_recurrent_columns * n * n if self.chip < n else 0,
        }

    @cached_property
    def job(self) -> dict[str, int]:
        """The fields of `JOB` that the layout decides."""
        n_parameters = self.n_directions * self.layer_parameters + self.n_outputs
        x = (1 + self.n_slots) * n_parameters
        logits = x + self.n_steps * self.n_inputs
        tape, columns, dy, transposed = self.sizes.values()
        return {
            "n_units": self.n_units,
            "n_inputs": self.n_inputs,
            "n_outputs": self.n_outputs,
            "n_directions": self.n_directions,
            "n_parameters": n_parameters,
            "chip": self.chip,
            "mats": self.mats,
            "x": x,
            "logits": logits,
            "layers": logits + self.n_steps * self.n_outputs,
            "layer_size": tape + columns + dy + transposed,
            "columns": tape,
            "dy": tape + columns,
            "transposed": tape + columns + dy,
        }

    @property
    def slot_size(self) -> int:
        """Size of the member's part of global memory."""
        return self.job["layers"] + self.n_directions * self.job["layer_size"]

    def copies(self, shapes: dict[str, tuple[int, ...]], directions: Sequence[str]) -> Iterator[tuple[int, ...]]:
        """For each parameter where it lies in the parameter vector and where in the slot, as records of `COPY`.

        Element (row, column) of the source is element (column, row) of the target.

        Args:
            shapes: of all parameters in the order of the vector.
            directions: prefixes of the parameters' names.
        """
        n, m, o = self.n_units, self.n_inputs, self.n_outputs
        starts, start = {}, 0
        for name, shape in shapes.items():
            starts[name] = start
            start += shape[0] * (shape[1] if len(shape) > 1 else 1)
        for d, prefix in enumerate(directions):
            target = d * self.layer_parameters
            for product in self.plan.products:
                depth = m if product.operand == "x" else n
                width = len(product.preactivations) * n
                for place, matrix in enumerate(product.matrices):
                    yield starts[prefix + matrix], depth, n, depth, target + place * n, width
                target += depth * width
            for name in self.plan.vectors:
                yield starts[prefix + name], n, 1, n, target, 1
                target += n
            yield starts["W_out"] + d * n, len(directions) * n, o, n, target, o
        yield starts["b_out"], o, 1, o, len(directions) * self.layer_parameters, 1
