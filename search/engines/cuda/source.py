"""Python source, for numba-cuda, of the kernels of a cell, printed from its plan.

One thread block trains one member through a whole epoch, sequence by sequence. Within a sequence it does the phases of
a training step one after the other, each with all its threads:

- products over all time steps at once (with the input, the output layer, gradients): tiles of the result in
  registers, pieces of the operands in shared memory. A gradient goes from its tile right into the update of the
  weights; there is no gradient in memory;
- the recurrence, step by step: products of the state with matrices that stay in shared memory (what does not fit there
  is read from global memory), then the elementwise work, one thread a unit. Two barriers a step, for most cells.

Everything is printed into one function: the code needs no linking, and what is constant for the cell is constant in it.

Barriers. Every phase ends with one, so that a phase may read what any phase before it wrote, and may write where any
of them read; comments at the other barriers say what they order. A barrier is never in a branch that threads of a block
take differently: what such branches depend on (sizes, the member and the sequence under way) is the same for all.

Names that the source uses and its surroundings define (`search.engines.cuda.native`): ``R`` makes a number, ``D`` a
float64, ``I`` and ``W`` a signed and an unsigned 64-bit integer, ``U`` an index of shared memory; ``TYPE`` is the type
of numbers; then the elementary functions.
"""

from collections.abc import Callable, Iterable, Sequence

from search import losses
from search.base.randomness import PHILOX_MULTIPLIERS, PHILOX_ROUNDS, PHILOX_WEYL
from search.engines.cuda.layout import COPY, JOB, MESSAGES, UNROLL, Tiles, operands, passed, recurrent
from search.engines.cuda.loss_kernels import best_path, print_loss
from search.engines.cuda.printer import Printer
from search.engines.plan import Plan, Product, Stage
from search.expression import Node
from search.rules.trace import Program

# The kernels, with their arguments: pointers to numbers, to integers of some size, or int64.
EPOCH = {
    "g": "real *",
    "jobs": "int64 *",
    "noises": "float64 *",
    "shared": "float64 *",
    "copies": "int64 *",
    "weights": "real *",
    "slots": "real *",
    "inputs": "real *",
    "starts": "int64 *",
    "lengths": "int64 *",
    "targets": "real *",
    "classes": "int32 *",
    "target_starts": "int64 *",
    "target_lengths": "int64 *",
    "best": "int32 *",
    "scratch": "float64 *",
    "orders": "int32 *",
    "losses": "float64 *",
    "control": "int32 []",
    "queue": "int64",
    "n_members": "int64",
    "slot_size": "int64",
    "scratch_size": "int64",
    "n_total": "int64",
    "n_weights": "int64",
    "train": "int64",
}
LAYER = {"g": "real *", "jobs": "int64 *"}
KERNELS = {"epoch": EPOCH, "unroll_forward": LAYER, "unroll_backward": LAYER}
# The first words of `control`.
STOP = 0


def epoch_source(plan: Plan, loss: str, tiles: Tiles, program: Program) -> str:
    """Source of the kernel ``epoch``, which trains on, or evaluates, all sequences of an order for each member."""
    printer = _Printer(plan, tiles, program)
    printer.epoch(loss)
    return printer.text


def unroll_source(plan: Plan, tiles: Tiles) -> str:
    """Source of the kernels ``unroll_forward`` and ``unroll_backward``, one block a sequence of the batch."""
    printer = _Printer(plan, tiles)
    printer.unroll("unroll_forward")
    printer.unroll("unroll_backward")
    return printer.text


def _at(index: str) -> str:
    """A word of shared memory."""
    return f"sm[U({index})]"


class _Printer(Printer):
    def __init__(self, plan: Plan, tiles: Tiles, program: Program | None = None):
        super().__init__()
        self._plan, self._tiles, self._program = plan, tiles, program
        self._order = plan.preactivations
        self._operands, self._passed, self._recurrent = operands(plan), passed(plan), recurrent(plan)
        # Columns of the recurrent products before each, in numbers of pre-activations.
        widths = [len(product.preactivations) for product in self._recurrent]
        self._before = dict(zip(self._recurrent, (sum(widths[:p]) for p in range(len(widths))), strict=True))
        self._input_columns = sum(len(product.preactivations) for product in plan.inputs)
        self._hear_x = {name for product in plan.inputs for name in product.preactivations}

    # Kernels

    def epoch(self, loss: str) -> None:
        with self.inside(f"def epoch({', '.join(EPOCH)}):"):
            self._prologue()
            self.put("slot = I(cuda.blockIdx.x) * slot_size", "taken = I(0)")
            with self.inside("while taken < n_members:"):
                with self.inside("if tid == 0:"):
                    self.put(f"{_at('0')} = R(cuda.atomic.add(control, queue, 1))")
                self.barrier("the number of the next member is there for all")
                self.put(f"taken = I({_at('0')})")
                self.barrier("all have read it")
                with self.inside("if taken < n_members:"):
                    self._member(loss)

    def _member(self, loss: str) -> None:
        """A member's epoch, from its parameter vector into the slot and back."""
        self.put(f"job = taken * {len(JOB)}", "w = slot")
        self.fields(JOB, "n_units", "n_inputs", "n_outputs", "n_directions", "n_parameters", "chip")
        assert self._program is not None
        self.put("n = n_units", "noise = R(noises[taken])")
        self._shares()
        self._copy_parameters(store=False)
        with self.inside("for d in range(n_directions):"):
            self._direction()
            self._start_layer()
        self.phase_ends()
        self.put("losses_here = D(0)", "stopped = I(0)")
        self.fields(JOB, "n_sequences")
        with self.inside("for i in range(n_sequences):"):
            with self.inside("if tid == 0:"):
                # An atomic, because it sees what the host writes while the kernel runs.
                self.put(f"{_at('1')} = R(cuda.atomic.add(control, {STOP}, 0))")
            self.barrier("the stop flag is there for all; the next barriers come before it is written again")
            with self.inside(f"if {_at('1')} != zero:"):
                self.put("stopped = I(1)", "break")
            self.put("index = I(orders[taken * n_sequences + i])")
            self.put("n_steps = lengths[index]", "first = starts[index]")
            n_shared = len(self._program.shared)
            self.put(f"now = (taken * n_sequences + i) * {n_shared}")
            self.put(*(f"rule_{node} = R(shared[now + {k}])" for k, node in enumerate(self._program.shared)))
            self._input()
            # Forward through all directions, then backward; one copy of the code for all products.
            forward = [lambda p=p: self._input_product(p) for p in self._plan.inputs] + [self._logits]
            backward = [self._output_adjoint]
            backward += [lambda p=p: self._matrix_update(p) for p in self._plan.products] + [self._output_update]
            with self.inside("for back in range(2 if train != 0 else 1):"):
                self.put(f"first_phase = {len(forward)} * back")
                self.put(f"last_phase = {len(forward)} + {len(backward)} * back")
                with self.inside("for d in range(n_directions):"):
                    self._direction()
                    self._walk()
                    with self.inside("for phase in range(first_phase, last_phase):"):
                        self.put("a_row = I(1)", "a_depth = I(1)", "b_depth = I(1)", "b_column = I(1)")
                        self.put("mode = I(0)", "result_row = I(0)", "kept = I(0)", "stride = I(0)", "deep = I(0)")
                        self.put("result = columns", "near = mats", "far = transposed")
                        for number, prepare in enumerate([*forward, *backward]):
                            with self.inside(f"{'el' if number else ''}if phase == {number}:"):
                                prepare()
                        self._product()
                        with self.inside(f"if phase == {len(self._plan.inputs) - 1}:"):
                            self._forward()
                        with self.inside(f"elif phase == {len(forward)}:"):
                            self._backward()
                            self._update_vectors()
                with self.inside("if back == 0:"):
                    self._loss(loss)
            with self.inside("if train != 0:"):
                self._update_output_bias()
        with self.inside("if stopped != 0:"):
            self.put("taken = n_members")
        with self.inside("else:"):
            self.put("losses[taken * threads + tid] = losses_here")
            with self.inside("if train != 0:"):
                self._copy_parameters(store=True)
        self.phase_ends()

    def unroll(self, name: str) -> None:
        with self.inside(f"def {name}({', '.join(LAYER)}):"):
            self._prologue()
            self.put("job = 0", "b = I(cuda.blockIdx.x)")
            self.fields(UNROLL, *UNROLL)
            self.put("n = n_units", f"vec = {MESSAGES}", f"work = vec + {len(self._plan.vectors)} * n")
            self.put("recurrent = weights")
            self.put("tape = tape + b * tape_size", "columns = columns + b * column_size", "dy = dy + b * dy_size")
            self._shares()
            self._load_vectors("vectors")
            self._load_matrices()
            self.phase_ends()
            if name == "unroll_forward":
                self._forward()
            else:
                self._backward()
                self.put(f"start = gradients + b * ({len(self._plan.vectors)} * n)")
                with self.strided("u", "tid", f"{len(self._plan.vectors)} * n"):
                    self.put(f"g[start + u] = {_at('vgrad + u')}")

    def _prologue(self) -> None:
        rows = self._tiles.rows
        self.put("sm = cuda.shared.array(0, TYPE)", "tid = I(cuda.threadIdx.x)", "threads = I(cuda.blockDim.x)")
        self.put("zero = R(0.0)", "one = R(1.0)")
        # Threads as a grid: neighbours along a row of the result, or along a column of an operand.
        shift = rows.bit_length() - 1
        self.put(f"across = threads >> {shift}", "trow = tid // across", "tcol = tid % across")
        self.put(f"krow = tid & {rows - 1}", f"kcol = tid >> {shift}")

    def _shares(self) -> None:
        """Which unit, and which share of its sums, is this thread's in recurrent products."""
        self.put("shares = I(1)", "share = I(0)", "unit = tid")
        with self.inside("if n < threads:"):
            self.put("shares = threads // n", "share = tid // n", "unit = tid % n")
            with self.inside("if share >= shares:"):
                self.put("unit = n")
        for name, start, count in (("all", "0", "n"), ("chip", "0", "chip"), ("far", "chip", "n - chip")):
            self.put(f"part_size = ({count} + shares - 1) // shares")
            self.put(f"{name}_from = {start} + min({count}, share * part_size)")
            self.put(f"{name}_to = {start} + min({count}, (share + 1) * part_size)")

    def _direction(self) -> None:
        """Where the things of direction d are."""
        plan = self._plan
        self.fields(JOB, "mats", "x", "logits", "layers", "layer_size", "columns", "dy", "transposed")
        per_unit = f"{self._input_columns} * n_inputs + {self._recurrent_columns} * n + {len(plan.vectors)} + n_outputs"
        self.put(f"w = slot + d * (({per_unit}) * n)")
        self.put(f"recurrent = w + {self._input_columns} * n_inputs * n")
        self.put(f"vectors = recurrent + {self._recurrent_columns} * n * n")
        self.put(f"out = vectors + {len(plan.vectors)} * n")
        self.put("tape = slot + layers + d * layer_size", "columns = tape + columns", "dy = tape + dy")
        self.put("transposed = tape + transposed", "x = slot + x", "logits = slot + logits")
        self.put(f"bias = slot + n_directions * (({per_unit}) * n)")
        stride = self._strides(self._recurrent)
        self.put(f"mats = mats + d * chip * ({stride})" if stride else "mats = mats + 0")
        self.put(f"vec = {MESSAGES} + d * {len(plan.vectors)} * n")
        self.put(f"work = {MESSAGES} + n_directions * {len(plan.vectors)} * n")

    @property
    def _recurrent_columns(self) -> int:
        return sum(len(product.preactivations) for product in self._recurrent)

    def _walk(self) -> None:
        """First row and step of the input and of the logits, in the direction's order of time."""
        self.put("x_at = x", "x_step = n_inputs", "l_at = logits", "l_step = n_outputs")
        with self.inside("if d != 0:"):
            self.put("x_at = x + (n_steps - 1) * n_inputs", "x_step = -n_inputs")
            self.put("l_at = logits + (n_steps - 1) * n_outputs", "l_step = -n_outputs")

    # Parameters

    def _copy_parameters(self, store: bool) -> None:
        self.fields(JOB, "vector", "first_copy", "n_copies")
        with self.inside("for e in range(first_copy, first_copy + n_copies):"):
            self.put(*(f"{name} = copies[e * {len(COPY)} + {place}]" for place, name in enumerate(COPY)))
            with (
                self.inside("for r in range(n_rows):"),
                self.strided("c", "tid", "n_columns"),
            ):
                self.put("near = slot + target + c * target_stride + r")
                self.put("there = vector + source + r * source_stride + c")
                assert self._program is not None
                slots = [
                    (f"slots[there + {j} * n_weights]", f"g[near + {j + 1} * n_parameters]")
                    for j in range(len(self._program.slots))
                ]
                if store:
                    self.put("weights[there] = g[near]", *(f"{outside} = {inside}" for outside, inside in slots))
                else:
                    self.put("g[near] = weights[there]")
                    with self.inside("if train != 0:"):
                        self.put("pass", *(f"{inside} = {outside}" for outside, inside in slots))
        self.phase_ends()

    def _start_layer(self) -> None:
        self._load_vectors("vectors")
        self._load_matrices()
        # The state before the first step; nothing writes this row again.
        with self.strided("u", "tid", f"{len(self._plan.tape)} * n"):
            self.put("g[tape + u] = zero")

    def _load_vectors(self, start: str) -> None:
        if self._plan.vectors:
            with self.strided("u", "tid", f"{len(self._plan.vectors)} * n"):
                self.put(f"{_at('vec + u')} = g[{start} + u]")

    def _load_matrices(self) -> None:
        """Copies the recurrent matrices to where the recurrence reads them."""
        for product in self._recurrent:
            width = len(product.preactivations)
            self.put(f"matrix = recurrent + {self._before[product]} * n * n")
            with (
                self.inside("for r in range(n):"),
                self.strided("c", "tid", f"{width} * n"),
            ):
                self.put(f"value = g[matrix + r * ({width} * n) + c]")
                with self.inside("if r < chip:"):
                    self.put(f"{_at(f'{self._matrix(product)} + r * {self._stride(product)} + c')} = value")
                with self.inside("else:"):
                    self.put(f"g[transposed + ({self._before[product]} * n + c) * n + r] = value")

    @staticmethod
    def _stride(product: Product) -> str:
        """Distance of a matrix's rows in shared memory."""
        return f"({len(product.preactivations)} * n | 1)"

    def _strides(self, products: Iterable[Product]) -> str:
        return " + ".join(self._stride(product) for product in products)

    def _matrix(self, product: Product) -> str:
        """Where in shared memory a product's matrix begins."""
        before = self._strides(self._recurrent[: self._recurrent.index(product)])
        return f"mats + chip * ({before})" if before else "mats"

    # Products over all time steps

    def _product(self) -> None:
        """``sum over k of g[a + r a_row + k a_depth] * g[b + k b_depth + c b_column]``, in tiles

        for r < n_rows, k < n_depth, c < n_columns. With mode 0 the result goes to ``result``, with mode 1 it is added
        to what is there or to the output bias, and with mode 2 it is the gradient of what is there. Neighbouring
        threads read along k where it is next to it in memory (`a_depth` 1, `deep`), or else along r or c.
        """
        rows, micro = self._tiles.rows, self._tiles.micro
        height, shift, high_shift = rows * micro, rows.bit_length() - 1, (rows * micro).bit_length() - 1
        each = [(i, j) for i in range(micro) for j in range(micro)]
        loads = [f"u{i}" for i in range(height * rows // min(threads for threads, _ in self._tiles.threads))]
        self.put(f"width = across * {micro}", f"left = work + {rows * (height + 1)}")
        # Where in its piece of the left operand this thread's first number is, and the way to its next.
        self.put(f"a_r = tid >> {shift}", f"a_k = tid & {rows - 1}", "next_r = across", "next_k = I(0)")
        with self.inside("if a_depth != 1:"):
            self.put(f"a_r = tid & {height - 1}", f"a_k = tid >> {high_shift}")
            self.put("next_r = I(0)", f"next_k = threads >> {high_shift}")
        self.put("next_a = next_r * a_row + next_k * a_depth", f"next_u = next_k * {height + 1} + next_r")
        self.put("b_k = krow if deep != 0 else trow", "b_c = kcol if deep != 0 else tcol")
        self.put("next_b = across * b_column")
        with self.strided("r0", "0", "n_rows", f"{height}"), self.strided("c0", "0", "n_columns", "width"):
            self.put(*(f"s{i}{j} = zero" for i, j in each))
            self.put("a_at = a + (r0 + a_r) * a_row + a_k * a_depth")
            self.put("b_at = b + b_k * b_depth + (c0 + b_c) * b_column")
            self.put(*(f"{name} = zero" for name in loads), *(f"v{j} = zero" for j in range(micro)))
            # While one piece is multiplied, the next is on its way from memory.
            with self.strided("k0", f"-{rows}", "n_depth", f"{rows}"):
                with self.inside("if k0 >= 0:"):
                    # One more than the height apart, so that neither direction meets in one bank.
                    self.put(f"at = work + a_k * {height + 1} + a_r")
                    for i, name in enumerate(loads):
                        with self.inside(f"if {i} * threads < {height * rows}:"):
                            self.put(f"{_at('at')} = {name}")
                        self.put("at += next_u")
                    self.put("at = left + b_k * (width + 1) + b_c")
                    for j in range(micro):
                        self.put(f"{_at('at')} = v{j}", "at += across")
                    self.barrier("the pieces are whole before they are read")
                self.put("r = r0 + a_r", f"k = k0 + {rows} + a_k", "at = a_at")
                for i, name in enumerate(loads):
                    self.put(f"{name} = zero")
                    with self.inside(f"if {i} * threads < {height * rows} and r < n_rows and k < n_depth:"):
                        self.put(f"{name} = g[at]")
                    self.put("at += next_a", "r += next_r", "k += next_k")
                self.put(f"k = k0 + {rows} + b_k", "c = c0 + b_c", "at = b_at")
                for j in range(micro):
                    self.put(f"v{j} = zero")
                    with self.inside("if k < n_depth and c < n_columns:"):
                        self.put(f"v{j} = g[at]")
                    self.put("at += next_b", "c += across")
                self.put(f"a_at += {rows} * a_depth", f"b_at += {rows} * b_depth")
                with self.inside("if k0 >= 0:"):
                    self.put(f"a_from = work + trow * {micro}", "b_from = left + tcol")
                    with self.inside(f"for k in range({rows}):"):
                        self.put(*(f"a{i} = {_at(f'a_from + {i}')}" for i in range(micro)))
                        self.put(*(f"b{j} = {_at(f'b_from + {j} * across')}" for j in range(micro)))
                        self.put(*(f"s{i}{j} += a{i} * b{j}" for i, j in each))
                        self.put(f"a_from += {height + 1}", "b_from += width + 1")
                    self.barrier("they have been read before the next are written")
            # The tile goes to its place through a loop, for the code of the update to be there once.
            self.put(f"tile = cuda.local.array({micro * micro}, TYPE)")
            self.put(*(f"tile[{i * micro + j}] = s{i}{j}" for i, j in each))
            with self.inside(f"for i in range({micro}):"), self.inside(f"for j in range({micro}):"):
                self.put(f"r = r0 + trow * {micro} + i", "c = c0 + tcol + j * across")
                with self.inside("if r < n_rows and c < n_columns:"):
                    self.put("at = result + r * result_row + c", f"total = tile[i * {micro} + j]")
                    with self.inside("if mode == 2:"):
                        self._update("at", "total")
                        with self.inside("if kept != 0:"):
                            with self.inside("if r < chip:"):
                                self.put(f"{_at('near + r * stride + c')} = value")
                            with self.inside("else:"):
                                self.put("g[far + c * n + r] = value")
                    with self.inside("elif mode == 1:"):
                        self.put("old = g[bias + c]")
                        with self.inside("if d != 0:"):
                            self.put("old = g[at]")
                        self.put("g[at] = old + total")
                    with self.inside("else:"):
                        self.put("g[at] = total")
        self.phase_ends()

    def _input_product(self, product: Product) -> None:
        """``columns = x @ W`` for all steps, where a pre-activation hears the input."""
        before = sum(len(p.preactivations) for p in self._plan.inputs[: self._plan.inputs.index(product)])
        width = len(product.preactivations)
        self.put("a = x_at", "a_row = x_step", f"b = w + {before} * n_inputs * n", f"b_depth = {width} * n")
        self.put(f"result = columns + {self._column(product)} * n", f"result_row = {len(self._order)} * n")
        self.put("n_rows = n_steps", "n_depth = n_inputs", f"n_columns = {width} * n")

    def _logits(self) -> None:
        """``logits = y @ W_out^T + b_out``, each direction adding its part."""
        self.put(f"a = tape + {self._row} + {self._slot('y')} * n", f"a_row = {self._row}")
        self.put("b = out", "b_depth = n_outputs", "result = l_at", "result_row = l_step", "mode = I(1)")
        self.put("n_rows = n_steps", "n_depth = n", "n_columns = n_outputs")

    def _output_adjoint(self) -> None:
        """``d loss / d y = d loss / d logits @ W_out``, as far as it comes from the output layer."""
        self.put("a = l_at", "a_row = l_step", "b = out", "b_column = n_outputs", "deep = I(1)")
        self.put("n_rows = n_steps", "n_depth = n_outputs", "n_columns = n", "result = dy", "result_row = n")

    def _matrix_update(self, product: Product) -> None:
        """Update of a product's matrix with the sum over time of ``operand^T @ d loss / d column``."""
        products = self._plan.products
        width = len(product.preactivations)
        self.put(f"b = columns + {self._column(product)} * n", f"b_depth = {len(self._order)} * n", "mode = I(2)")
        self.put("n_depth = n_steps", f"n_columns = {width} * n", f"result_row = {width} * n")
        if product.operand == "x":
            before = sum(len(p.preactivations) for p in products[: products.index(product)])
            self.put("a = x_at", "a_depth = x_step", "n_rows = n_inputs", f"result = w + {before} * n_inputs * n")
            return
        # The state is heard one step late, what the step passes at once.
        late = f"{self._row} + " if "." in product.operand else ""
        self.put(f"a = tape + {late}{self._plan.tape[product.node]} * n", f"a_depth = {self._row}", "n_rows = n")
        self.put(f"result = recurrent + {self._before[product]} * n * n", "kept = I(1)")
        self.put(f"near = {self._matrix(product)}", f"stride = {self._stride(product)}")
        self.put(f"far = transposed + {self._before[product]} * n * n")

    def _output_update(self) -> None:
        """The same for the output layer's matrix."""
        self.put(f"a = tape + {self._row} + {self._slot('y')} * n", f"a_depth = {self._row}", "b = l_at")
        self.put("b_depth = l_step", "n_rows = n", "n_depth = n_steps", "n_columns = n_outputs", "mode = I(2)")
        self.put("result = out", "result_row = n_outputs")

    def _update(self, at: str, gradient: str) -> None:
        """The update of a weight; what it becomes is `value`."""
        assert self._program is not None
        program = self._program

        def leaf(node: Node) -> str | None:
            slot = program.slots.index(node.name) + 1 if node.op == "slot" else 0
            return {"gradient": gradient, "weight": f"g[{at}]", "slot": f"g[{at} + {slot} * n_parameters]"}.get(node.op)

        def name(index: int) -> str:
            return f"rule_{index}" if index in program.shared else f"new_{index}"

        self.assign(program.nodes, program.own, name, leaf)
        self.put(*(f"g[{at} + {j} * n_parameters] = {name(node)}" for j, node in enumerate(program.new, 1)))
        self.put(f"value = {name(program.weight)}", f"g[{at}] = value")

    # The recurrence

    @property
    def _row(self) -> str:
        """Length of a row of the tape."""
        return f"{len(self._plan.tape)} * n"

    def _slot(self, state: str) -> int:
        return self._plan.tape[self._plan.state[state]]

    def _column(self, product: Product) -> int:
        return self._order.index(product.preactivations[0])

    def _regions(self, first: str, *regions: tuple[str, str]) -> None:
        """Names parts of the work area, one after the other."""
        for name, size in regions:
            self.put(f"{name} = {first}")
            first = f"{name} + {size}"

    def _forward(self) -> None:
        """Runs the layer over the sequence: columns to tape, from row 1 on."""
        plan, states = self._plan, list(self._plan.state)
        self._regions("work", ("state", f"{len(states)} * n"), ("fed", f"{len(self._passed)} * n"), ("parts", "0"))
        with self.strided("u", "tid", f"{len(states)} * n"):
            self.put(f"{_at('state + u')} = zero")
        self.barrier("the state is there for the products of the first step")
        with self.inside("for t in range(n_steps):"):
            self.put(f"past = tape + t * ({self._row})", f"now = past + {self._row}")
            self.put(f"row = columns + t * ({len(self._order)} * n)")
            summed: set[str] = set()
            for s, stage in enumerate(plan.forward):
                products = [*(plan.recurrent if s == 0 else ()), *stage.products]
                if products:
                    self._multiply(products, summed)
                    self.barrier("sums by share are whole before they are added up")
                    summed |= {name for product in products for name in product.preactivations}
                with self.strided("j", "tid", "n"):
                    self._forward_stage(stage, summed, last=stage is plan.forward[-1])
                self.barrier("operands are whole before they are multiplied, and the sums were read")

    def _multiply(self, products: Sequence[Product], summed: set[str]) -> None:
        """Adds to the sums, by share, what each product gives to its pre-activations; the input's part to share 0."""
        states = list(self._plan.state)
        names = [name for name in self._order if any(name in product.preactivations for product in products)]
        place = {name: self._order.index(name) for name in names}
        with self.strided("j", "unit", "n"):
            self.put(f"sums = parts + share * ({len(self._order)} * n) + j")
            for name in names:
                old = _at(f"sums + {place[name]} * n") if name in summed else "zero"
                self.put(f"s_{place[name]} = {old}")
            fresh = [name for name in names if name in self._hear_x and name not in summed]
            for name in fresh:
                self.put(f"x_{place[name]} = zero")
            if fresh:
                with self.inside("if share == 0:"):
                    self.put(*(f"x_{place[name]} = g[row + {place[name]} * n + j]" for name in fresh))
            for where in ("chip", "far"):
                for k, product in enumerate(products):
                    source = (
                        f"fed + {self._passed.index(product.operand)} * n"
                        if "." in product.operand
                        else f"state + {states.index(product.operand)} * n"
                    )
                    self.put(f"h_{k} = {source} + {where}_from")
                    if where == "chip":
                        self.put(f"stride_{k} = {self._stride(product)}")
                        self.put(f"w_{k} = {self._matrix(product)} + {where}_from * stride_{k} + j")
                    else:
                        self.put(f"stride_{k} = {len(product.preactivations)} * n")
                        start = f"recurrent + {self._before[product]} * n * n"
                        self.put(f"w_{k} = {start} + {where}_from * stride_{k} + j")
                with self.strided("q", f"{where}_from", f"{where}_to", "1"):
                    for k, product in enumerate(products):
                        self.put(f"h = {_at(f'h_{k}')}")
                        for c, name in enumerate(product.preactivations):
                            at = f"w_{k} + {c} * n"
                            self.put(f"s_{place[name]} += h * {_at(at) if where == 'chip' else f'g[{at}]'}")
                        self.put(f"h_{k} += 1", f"w_{k} += stride_{k}")
            for name in names:
                x = f" + x_{place[name]}" if name in fresh else ""
                self.put(f"{_at(f'sums + {place[name]} * n')} = s_{place[name]}{x}")

    def _forward_stage(self, stage: Stage, summed: set[str], last: bool) -> None:
        plan, states = self._plan, list(self._plan.state)
        asked = [plan.nodes[index].name for index in stage.nodes if plan.nodes[index].op == "pre"]
        place = {name: self._order.index(name) for name in asked}
        for name in asked:
            in_columns = f"g[row + {place[name]} * n + j]" if name in self._hear_x else "zero"
            self.put(f"pre_{place[name]} = {'zero' if name in summed else in_columns}")
        if any(name in summed for name in asked):
            self.put("at = parts + j")
            with self.strided("s", "0", "shares", "1"):
                added = [name for name in asked if name in summed]
                self.put(*(f"pre_{place[name]} += {_at(f'at + {place[name]} * n')}" for name in added))
                self.put(f"at += {len(self._order)} * n")
        for name in asked:
            if name in plan.biases:
                bias = _at(f"vec + {plan.vectors.index(plan.biases[name])} * n + j")
                self.put(f"pre_{place[name]} += {bias}")
        leaves = {
            "past": lambda name: _at(f"state + {states.index(name)} * n + j"),
            "pre": lambda name: f"pre_{place[name]}",
        }
        self._evaluate(stage, leaves)
        for node in stage.writes:
            self.put(f"g[now + {plan.tape[node]} * n + j] = n{node}")
        for k, operand in enumerate(self._passed):
            node = next(product.node for product in self._recurrent if product.operand == operand)
            if node in stage.writes:
                self.put(f"{_at(f'fed + {k} * n + j')} = n{node}")
        if last:
            for k, name in enumerate(states):
                node = plan.state[name]
                known = node in stage.writes
                self.put(f"state_{k} = n{node}" if known else f"state_{k} = g[now + {plan.tape[node]} * n + j]")
            self.put(*(f"{_at(f'state + {k} * n + j')} = state_{k}" for k in range(len(states))))

    def _evaluate(self, stage: Stage, leaves: dict[str, Callable[[str], str]]) -> None:
        """The nodes of a stage for unit j, as variables."""
        plan = self._plan
        leaves = leaves | {
            "unit": lambda name: _at(f"vec + {plan.vectors.index(name)} * n + j"),
            "time": lambda name: "R(t)",
        }
        self.put(*(f"n{index} = g[now + {plan.tape[index]} * n + j]" for index in stage.loads))
        # Reads first: they do not wait for one another.
        order = sorted(stage.nodes, key=lambda index: plan.nodes[index].op not in leaves)
        self.assign(
            plan.nodes, order, "n{}".format, lambda node: leaves[node.op](node.name) if node.op in leaves else None
        )

    def _backward(self) -> None:
        """Replaces the columns by d loss / d pre-activation; sums up the gradients of the vectors in `vgrad`."""
        plan, states = self._plan, list(self._plan.state)
        vectors, columns = len(plan.vectors), len(self._order)
        self._regions(
            "work", ("carry", f"{len(states)} * n"), ("vgrad", f"{vectors} * n"), ("adjoints", f"{columns} * n"),
            ("parts", "0"),
        )  # fmt: skip
        # Carries, gradients and sums start at zero; they lie side by side.
        with self.strided("u", "work + tid", f"parts + shares * ({len(self._operands)} * n)"):
            self.put(f"{_at('u')} = zero")
        self.barrier("they are zero before they are added to")
        with self.inside("for i_back in range(n_steps):"):
            self.put("t = n_steps - 1 - i_back", f"past = tape + t * ({self._row})", f"now = past + {self._row}")
            self.put(f"row = columns + t * ({columns} * n)")
            for stage in plan.backward:
                if stage.products:
                    self._multiply_back(stage.products)
                    self.barrier("sums by share are whole before they are added up")
                with self.strided("j", "tid", "n"):
                    self._backward_stage(stage, last=stage is plan.backward[-1])
                self.barrier("adjoints are whole before they are multiplied, and the sums were read")
            if plan.recurrent:
                with self.inside("if t > 0:"):
                    self._multiply_back(plan.recurrent)
                    self.barrier("sums by share are whole before they are added up")

    def _multiply_back(self, products: Sequence[Product]) -> None:
        """Sets, by share, ``adjoint of each operand = sum over its products of matrix @ adjoints``."""
        names = [name for name in self._order if any(name in product.preactivations for product in products)]
        place = {name: self._order.index(name) for name in names}
        heard = list(dict.fromkeys(product.operand for product in products))
        terms = [(k, c, name) for k, product in enumerate(products) for c, name in enumerate(product.preactivations)]
        with self.strided("j", "unit", "n"):
            self.put(*(f"s_{k}_{c} = zero" for k, c, _ in terms))
            self.put(*(f"d_{place[name]} = adjoints + {place[name]} * n + all_from" for name in names))

            def sums(read: str) -> None:
                with self.strided("q", "all_from", "all_to", "1"):
                    self.put(*(f"e_{place[name]} = {_at(f'd_{place[name]}')}" for name in names))
                    for k, c, name in terms:
                        self.put(f"s_{k}_{c} += e_{place[name]} * {read.format(at=f'w_{k} + {c} * step_{k}')}")
                    self.put(*(f"w_{k} += ahead" for k in range(len(products))))
                    self.put(*(f"d_{place[name]} += 1" for name in names))

            with self.inside("if j < chip:"):
                for k, product in enumerate(products):
                    self.put(f"w_{k} = {self._matrix(product)} + j * {self._stride(product)} + all_from")
                    self.put(f"step_{k} = n")
                self.put("ahead = I(1)")
                sums(_at("{at}"))
            with self.inside("else:"):
                for k, product in enumerate(products):
                    self.put(f"w_{k} = transposed + {self._before[product]} * n * n + all_from * n + j")
                    self.put(f"step_{k} = n * n")
                self.put("ahead = n")
                sums("g[{at}]")
            self.put(f"sums = parts + share * ({len(self._operands)} * n) + j")
            for operand in heard:
                total = " + ".join(f"s_{k}_{c}" for k, c, _ in terms if products[k].operand == operand)
                self.put(f"{_at(f'sums + {self._operands.index(operand)} * n')} = {total}")

    def _backward_stage(self, stage: Stage, last: bool) -> None:
        plan, states = self._plan, list(self._plan.state)
        asked = [plan.nodes[index] for index in stage.nodes if plan.nodes[index].op in ("adjoint", "fed")]
        heard = [node.name for node in asked if node.name in self._operands]
        place = {name: self._operands.index(name) for name in heard}
        self.put(*(f"heard_{place[name]} = zero" for name in heard))
        if heard:
            self.put("at = parts + j")
            with self.strided("s", "0", "shares", "1"):
                self.put(*(f"heard_{place[name]} += {_at(f'at + {place[name]} * n')}" for name in heard))
                self.put(f"at += {len(self._operands)} * n")

        def adjoint(name: str) -> str:
            parts = [_at(f"carry + {states.index(name)} * n + j")]
            parts += [f"heard_{place[name]}"] if name in place else []
            return " + ".join([*parts, *(["g[dy + t * n + j]"] if name == "y" else [])])

        leaves = {
            "past": lambda name: f"g[past + {self._slot(name)} * n + j]",
            "adjoint": adjoint,
            "fed": lambda name: f"heard_{place[name]}",
        }
        self._evaluate(stage, leaves)
        for name, node in stage.adjoints.items():
            self.put(f"{_at(f'adjoints + {self._order.index(name)} * n + j')} = n{node}")
            self.put(f"g[row + {self._order.index(name)} * n + j] = n{node}")
            if name in plan.biases:
                self.put(f"{_at(f'vgrad + {plan.vectors.index(plan.biases[name])} * n + j')} += n{node}")
        if last:
            for name, node in plan.unit_gradients.items():
                self.put(f"{_at(f'vgrad + {plan.vectors.index(name)} * n + j')} += n{node}")
            for k, name in enumerate(states):
                self.put(f"{_at(f'carry + {k} * n + j')} = n{plan.past[name]}")

    def _update_vectors(self) -> None:
        if not self._plan.vectors:
            return
        with self.strided("u", "tid", f"{len(self._plan.vectors)} * n"):
            self.put("at = vectors + u")
            self._update("at", _at("vgrad + u"))
            self.put(f"{_at('vec + u')} = value")
        self.phase_ends()

    # Input and loss

    def _input(self) -> None:
        """The input of the sequence, with the noise of `search.base.randomness.input_noise`."""
        self.fields(JOB, "seed", "epoch", "x")
        self.put("x = slot + x", "size = n_steps * n_inputs", "clean = first * n_inputs")
        with self.inside("if noise == zero or train == 0:"), self.strided("e", "tid", "size"):
            self.put("g[x + e] = inputs[clean + e]")
        with self.inside("else:"):
            self.put("blocks = (size + 3) >> 2", "mask = W(0xFFFFFFFF)", "half = W(32)", "top = W(8)")
            self.put("key0 = W(seed) & mask", "key1 = W(seed) >> half")
            with self.strided("e", "tid", "blocks"):
                self.put("p0 = W(e)", "p1 = W(index)", "p2 = W(epoch)", "p3 = W(0)")
                for turn in range(PHILOX_ROUNDS):
                    # A product of two 32-bit numbers, of which the compiler sees that they are.
                    self.put(f"q0 = W({PHILOX_MULTIPLIERS[0]}) * p0", f"q1 = W({PHILOX_MULTIPLIERS[1]}) * p2")
                    k0, k1 = (f"((key{i} + W({turn * weyl})) & mask)" for i, weyl in enumerate(PHILOX_WEYL))
                    self.put(f"p0 = (q1 >> half) ^ p1 ^ {k0}", f"p2 = (q0 >> half) ^ p3 ^ {k1}")
                    self.put("p1 = q1 & mask", "p3 = q0 & mask")
                for i, (radius, turns) in enumerate((("p0", "p1"), ("p2", "p3"))):
                    self.put(f"length = sqrt(R(-2.0) * log(R(I({radius} >> top) + 1) * R({2.0**-24!r})))")
                    # Of twice the turns, so that no argument is reduced modulo 2 pi.
                    self.put(f"angle = R(I({turns} >> top)) * R({2.0**-23!r})")
                    for j, wave in enumerate(("cospi", "sinpi")):
                        self.put(f"at = e + {2 * i + j} * blocks")
                        with self.inside("if at < size:"):
                            self.put(f"g[x + at] = inputs[clean + at] + noise * (length * {wave}(angle))")
        self.phase_ends()

    def _loss(self, loss: str) -> None:
        """Adds the loss to `losses_here` and replaces the logits by the derivatives, or reads the best path."""
        self.fields(JOB, "logits")
        self.put("logits = slot + logits")
        if not losses.find(loss).counts_errors:
            print_loss(self, loss)
        else:
            with self.inside("if train != 0:"):
                print_loss(self, loss)
            with self.inside("else:"):
                best_path(self)
        self.phase_ends()

    def _update_output_bias(self) -> None:
        with self.strided("c", "tid", "n_outputs"):
            self.put("gradient = zero")
            with self.inside("for t in range(n_steps):"):
                self.put("gradient += g[logits + t * n_outputs + c]")
            self.put("at = bias + c")
            self._update("at", "gradient")
        self.phase_ends()
