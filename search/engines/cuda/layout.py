"""How the CUDA engine lays out a member: in a block's part of global memory, and in the block's shared memory.

All numbers count numbers, not bytes. In global memory a block's part (its slot) holds, one after the other:

- the parameters, and after them each slot of the update in the same order: for each layer the matrices of the products
  with what it hears, those of the other products, the biases and per-unit parameters, and its part of the output
  layer's matrix; then the output layer's bias. Matrices with the same operand lie side by side and transposed, as on
  the CPU: row k of a block is what operand element k adds to each column, so that neighbouring threads read
  neighbouring numbers;
- the noisy input [T, M] and the logits [T, O] of the sequence under way, and for each level above the first what its
  layers hear, and d loss / d that, [T, directions * N] each;
- for each layer: its tape [T + 1, slots * N], columns [T, pre-activations * N], d loss / d y [T, N], d loss / d what
  it reads of the state of the layer below [T, names * N], its vectors' gradients where these are clipped, and those
  recurrent matrices that found no place in shared memory once more, transposed, for the backward step;
- for each direction of tied layers, the sums of their gradients, as the parameters lie that they share.

In shared memory: the constants of the cell, the vectors of each layer, an area that the phases of a sequence use in
turn, and the first rows of each recurrent matrix of each layer, as many as there is room for; of tied layers those of
the one that owns them.

A layer here is one direction of one, as in `search.network.Layer`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.engines.plan import Plan, Product
from search.errors import UserError
from search.network import Layer, Network


def _record(words: tuple[str, ...], **wide: type) -> np.dtype:
    """A record as C lays it out: wide fields, then int32."""
    fields = [*wide.items(), *((name, np.int32) for name in words)]
    return np.dtype([(name, np.dtype(kind)) for name, kind in fields], align=True)


JOB = _record(
    (
        *("n_units", "n_inputs", "n_outputs", "n_parameters", "n_layers", "epoch", "chip", "work"),
        *("first_layer", "first_copy", "n_copies", "constants", "x", "logits", "bias"),
    ),
    vector=np.int64,
    seed=np.int64,
    noise=np.float64,
)
LAYER = _record(
    (
        *("n_inputs", "back", "heard", "adds", "weights", "recurrent", "vectors", "out", "hears", "d_hears"),
        *("above", "d_above", "above_stride", "tape", "columns", "dy", "transposed", "mats", "vec"),
        *("below", "d_below", "from_above", "vgrad", "turn", "sums"),
    )
)
TURNS = {"ALONE": 0, "FIRST": 1, "BETWEEN": 2, "LAST": 3}  # of layers that share parameters, on the way down
COPY = _record(("source", "source_stride", "n_rows", "n_columns", "target", "target_stride"))

_OF_OWNER = ("weights", "recurrent", "vectors", "transposed", "mats", "vec")  # fields that tied layers have of it
MOST_LAYERS = 16  # whose records a block has room for
_MOST = 2**31  # numbers of a slot; offsets in it are 32 bits wide


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
        plan: of its cell.
        network: its own.
        n_steps: of the longest sequence.
        itemsize: bytes of a number.
        shared_bytes: shared memory that a block may have.
        tiles: how blocks divide their work.
        n_slots: of the update.
    """

    plan: Plan
    network: Network
    n_steps: int
    itemsize: int
    shared_bytes: int
    tiles: Tiles = HARDWARE
    n_slots: int = 0

    @property
    def n_units(self) -> int:
        return self.network.n_units

    @property
    def n_layers(self) -> int:
        return len(self.network.layers)

    @cached_property
    def threads(self) -> int:
        """Threads of the block. They depend on the member alone, so that its results do."""
        needed = len(self.owners) * self.row_width * self.n_units * self.itemsize
        return next(threads for threads, most in self.tiles.threads if needed <= most)

    @cached_property
    def owners(self) -> list[int]:
        """The layers that have parameters of their own."""
        return [k for k, layer in enumerate(self.network.layers) if layer.owner == k]

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
        """Shared memory for one row of every recurrent matrix of a layer."""
        return sum(map(self.stride, recurrent(self.plan)))

    @property
    def first_vectors(self) -> int:
        """Where in shared memory the vectors of the layers begin, after the constants."""
        return len(self.plan.constants) * self.n_units

    @property
    def work(self) -> int:
        """Where in shared memory the work area begins."""
        return self.first_vectors + len(self.owners) * len(self.plan.vectors) * self.n_units

    @cached_property
    def mats(self) -> int:
        """Where in shared memory the matrices begin."""
        plan, n = self.plan, self.n_units
        columns, vectors = len(plan.preactivations) * n, len(plan.vectors) * n
        state = (len(plan.state) + len(plan.means)) * n
        forward = state + len(passed(plan)) * n + self.shares * columns
        backward = state + vectors + columns + self.shares * len(operands(plan)) * n
        rows, micro = self.tiles.rows, self.tiles.micro
        product = rows * (rows * micro + 1) + rows * (self.threads // rows * micro + 1)
        return self.work + max(forward, backward, product)

    @cached_property
    def chip(self) -> int:
        """Rows of each recurrent matrix that are kept in shared memory."""
        room = self.shared_bytes // self.itemsize - self.mats
        if not self.row_width:
            return 0
        return max(0, min(self.n_units, room // (len(self.owners) * self.row_width)))

    @property
    def shared_used(self) -> int:
        """Bytes of shared memory."""
        return (self.mats + len(self.owners) * self.chip * self.row_width) * self.itemsize

    # Global memory

    @property
    def n_recurrent_columns(self) -> int:
        return sum(len(product.preactivations) for product in recurrent(self.plan))

    @cached_property
    def scratch(self) -> dict[str, int]:
        """Sizes of the parts of a layer's memory besides its parameters, in order."""
        n, steps = self.n_units, self.n_steps
        return {
            "tape": (steps + 1) * len(self.plan.tape) * n,
            "columns": steps * len(self.plan.preactivations) * n,
            "dy": steps * n,
            "d_below": steps * len(self.plan.below) * n,
            "vgrad": len(self.plan.vectors) * n,
            "transposed": self.n_recurrent_columns * n * n if self.chip < n else 0,
        }

    def shared(self, layer: Layer) -> dict[str, int]:
        """Sizes of the parts of a layer's parameters that tied layers share, in order."""
        n = self.n_units
        return {
            "weights": sum(len(product.preactivations) for product in self.plan.inputs) * layer.n_inputs * n,
            "recurrent": self.n_recurrent_columns * n * n,
            "vectors": len(self.plan.vectors) * n,
        }

    def parameters(self, k: int) -> dict[str, int]:
        """Sizes of the parts of layer k's parameters, in order, but of those that are another's."""
        layer = self.network.layers[k]
        own = self.shared(layer) if layer.owner == k else {}
        return own | {"out": 0 if layer.heard is None else self.network.n_outputs * self.n_units}

    def _turn(self, k: int) -> int:
        """Of `TURNS` that of layer k."""
        layers, own = self.network.layers, self.network.layers[k].owner
        sharing = [at for at, layer in enumerate(layers) if layer.owner == own]
        if len(sharing) == 1:
            return TURNS["ALONE"]
        return TURNS["LAST" if k == own else "FIRST" if k == sharing[-1] else "BETWEEN"]

    @cached_property
    def sums(self) -> int:
        """Size of the sums of the gradients of what tied layers of one direction share."""
        tied = self.network.n_layers > 2 and self.plan.tied
        return sum(self.shared(self.network.layers[-1]).values()) if tied else 0

    @property
    def n_parameters(self) -> int:
        return self.network.n_parameters

    @cached_property
    def _between(self) -> int:
        """Size of what the layers of a level above the first hear."""
        return self.n_steps * self.network.n_directions * self.n_units

    @cached_property
    def x(self) -> int:
        """Where in the slot the input of the sequence begins."""
        return (1 + self.n_slots) * self.n_parameters

    @property
    def logits(self) -> int:
        """Where in the slot the logits begin."""
        return self.x + self.n_steps * self.network.n_inputs

    def _hears(self, level: int) -> int:
        """Where in the slot begins what the layers of a level hear; after it follows d loss / d that."""
        first = self.logits + self.n_steps * self.network.n_outputs
        return first + (level - 1) * 2 * self._between if level else self.x

    @cached_property
    def layers(self) -> np.ndarray:
        """The records of the layers, from bottom to top. [layers] of `LAYER`"""
        network, n = self.network, self.n_units
        records = np.zeros(self.n_layers, LAYER)
        parameters, scratch = 0, self._hears(network.n_layers)
        if self.n_layers > MOST_LAYERS:
            most = MOST_LAYERS // network.n_directions
            raise UserError(f"engine=cuda: n_layers={network.n_layers}: expected at most {most}, or engine=cpu")
        if self.slot_size >= _MOST:
            have = f"a hidden size of {n}, for sequences of {self.n_steps} steps"
            raise UserError(f"engine=cuda: {have}, needs more than 2**31 numbers of memory; expected less of either")
        for k, (layer, record) in enumerate(zip(network.layers, records, strict=True)):
            top = layer.level + 1 == network.n_layers
            above = -1 if top else self._hears(layer.level + 1) + layer.direction * n
            fields = {
                "n_inputs": layer.n_inputs,
                "back": layer.direction,
                "heard": 0 if layer.heard is None else 1 if layer.heard == 0 else 2,
                "adds": layer.direction + 1 < network.n_directions,
                "hears": self._hears(layer.level),
                "d_hears": self._hears(layer.level) + self._between if layer.level else -1,
                "above": above,
                "d_above": above if top else above + self._between,
                "above_stride": network.n_directions * n,
                "turn": self._turn(k),
                "sums": self.slot_size - (network.n_directions - layer.direction) * self.sums,
            }
            for name, size in self.parameters(k).items():
                fields[name], parameters = parameters, parameters + size
            for name, size in self.scratch.items():
                fields[name], scratch = scratch, scratch + size
            if layer.owner == k:
                place = self.owners.index(k)
                fields["mats"] = self.mats + place * self.chip * self.row_width
                fields["vec"] = self.first_vectors + place * len(self.plan.vectors) * n
            else:
                fields |= {name: records[layer.owner][name] for name in _OF_OWNER}
            for name, value in fields.items():
                record[name] = value
        apart = network.n_directions
        records["below"], records["from_above"] = -1, -1
        records["below"][apart:], records["from_above"][:-apart] = records["tape"][:-apart], records["d_below"][apart:]
        return records

    @property
    def slot_size(self) -> int:
        """Size of the member's part of global memory."""
        layers = self.n_layers * sum(self.scratch.values()) + self.network.n_directions * self.sums
        return self._hears(self.network.n_layers) + layers

    @cached_property
    def job(self) -> dict[str, int]:
        """The fields of `JOB` that the layout decides."""
        return {
            "n_units": self.n_units,
            "n_inputs": self.network.n_inputs,
            "n_outputs": self.network.n_outputs,
            "n_parameters": self.n_parameters,
            "n_layers": self.n_layers,
            "chip": self.chip,
            "work": self.work,
            "x": self.x,
            "logits": self.logits,
            "bias": self.n_parameters - self.network.n_outputs,
        }

    @cached_property
    def copies(self) -> np.ndarray:
        """For each parameter where it lies in the parameter vector and where in the slot. [parameters] of `COPY`

        Element (row, column) of the source is element (column, row) of the target.
        """
        return np.array(list(self._copies()), COPY)

    def _copies(self) -> Iterator[tuple[int, ...]]:
        network, n, o = self.network, self.n_units, self.network.n_outputs
        sizes = [int(np.prod(shape)) for shape in network.shapes.values()]
        starts = dict(zip(network.shapes, (sum(sizes[:k]) for k in range(len(sizes))), strict=True))
        target = 0
        for k, layer in enumerate(network.layers):
            for product in self.plan.products if layer.owner == k else ():
                depth = layer.n_inputs if product.operand == "x" else n
                width = len(product.preactivations) * n
                for place, matrix in enumerate(product.matrices):
                    yield starts[layer.prefix + matrix], depth, n, depth, target + place * n, width
                target += depth * width
            for name in self.plan.vectors if layer.owner == k else ():
                yield starts[layer.prefix + name], n, 1, n, target, 1
                target += n
            if layer.heard is not None:
                yield starts["W_out"] + layer.heard, network.n_heard, o, n, target, o
                target += n * o
        yield starts["b_out"], o, 1, o, target, 1
