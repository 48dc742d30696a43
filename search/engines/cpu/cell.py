"""The kernels of one cell, printed from its plan: a layer forward and backward over a sequence, an epoch, an unroll."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llvmlite import ir

from search import losses
from search.engines.cpu import layout, loss_kernels, routines, vector_math
from search.engines.cpu.llvm import DOUBLE, INT, INT32, POINTER, VOID, Builder, Target
from search.engines.plan import Plan, Product, Stage


def cell_module(plan: Plan, target: Target, loss: str | None, clips_norm: bool) -> ir.Module:
    """A module for one cell, to be linked with the library and, for an epoch, with a rule.

    It defines ``int epoch(void *job)``, for records with the fields `layout.JOB`, if there is a loss to train with,
    `clips_norm` saying whether updates wait for the norm of all gradients; otherwise ``int unroll_forward(void *)`` and
    ``int unroll_backward(void *)`` for records of `layout.UNROLL`.
    """
    module = ir.Module("cell")
    cell = _Cell(plan, target, module)
    if loss:
        cell.define("epoch", lambda b, job: _epoch(b, job, cell, loss, clips_norm))
    else:
        cell.define("unroll_forward", lambda b, job: _unroll_forward(b, job, cell))
        cell.define("unroll_backward", lambda b, job: _unroll_backward(b, job, cell))
    return module


class _Fields:
    """A record in memory, read word by word; the words that are read do not change during a call."""

    def __init__(self, b: Builder, start: ir.Value, fields: tuple[str, ...]):
        self._b, self.start, self._fields = b, start, fields

    def _word(self, name: str, kind: ir.Type) -> ir.Value:
        place = self._b.const(self._fields.index(name))
        word = self._b.load(self._place(place), typ=kind, align=8)
        word.set_metadata("invariant.load", self._b.module.add_metadata([]))
        return word

    def _place(self, place: ir.Value) -> ir.Value:
        return self._b.gep(self.start, [place], source_etype=INT)

    def address(self, name: str) -> ir.Value:
        return self._place(self._b.const(self._fields.index(name)))

    def size(self, name: str) -> ir.Value:
        return self._word(name, INT)

    def pointer(self, name: str) -> ir.Value:
        return self._word(name, POINTER)

    def real(self, name: str) -> ir.Value:
        value = self._word(name, DOUBLE)
        return value if self._b.target.dtype == "float64" else self._b.fptrunc(value, self._b.target.real)


# The start and stride of rows, as a direction walks over them.
_Walk = Callable[[ir.Value, ir.Value], tuple[ir.Value, ir.Value]]


@dataclass
class _Operand:
    """The left side of a matrix product: rows of numbers, one for each time step."""

    start: ir.Value
    stride: ir.Value
    size: ir.Value


class _Cell:
    """The functions of a cell's module."""

    def __init__(self, plan: Plan, target: Target, module: ir.Module):
        self.plan, self.target, self.module = plan, target, module
        self.fields = layout.layer_fields(plan)
        self.library = routines.declare(module, target)
        self.fed = [p.operand for p in plan.products if "." in p.operand]
        # (layer, tape, x, x_stride, n_steps), (layer, tape, dy, n_steps)
        self.forward = self._function("forward", POINTER, POINTER, POINTER, INT, INT)
        self.backward = self._function("backward", POINTER, POINTER, POINTER, INT)
        self._emit_forward()
        self._emit_backward()

    def _function(self, name: str, *arguments: ir.Type) -> ir.Function:
        function = ir.Function(self.module, ir.FunctionType(VOID, arguments), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        return function

    def define(self, name: str, emit: Callable[[Builder, ir.Value], None]) -> None:
        """Defines an ``int name(void *)``."""
        function = ir.Function(self.module, ir.FunctionType(INT32, [POINTER]), name)
        emit(Builder(self.target, function), function.args[0])

    def layer(self, b: Builder, address: ir.Value) -> _Fields:
        return _Fields(b, address, self.fields)

    # Parts of a layer

    def slot(self, b: Builder, layer: _Fields, row: ir.Value, node: int) -> ir.Value:
        """Address of a node's values in a row of the tape."""
        return b.at(row, b.mul(b.const(self.plan.tape[node]), layer.size("unit_stride")))

    def vector(self, b: Builder, layer: _Fields, kind: str, name: str) -> ir.Value:
        """Address of a parameter that has one number for each unit; `kind` is weights or gradients."""
        place = b.const(self.plan.vectors.index(name))
        return b.at(layer.pointer(f"vector_{kind}"), b.mul(place, layer.size("unit_stride")))

    def product(self, b: Builder, layer: _Fields, product: Product) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
        """A product's matrix, its stride, its width in vectors, and its first column."""
        p = self.plan.products.index(product)
        words = (layer.size(f"stride.{p}"), layer.size(f"width.{p}"))
        return layer.pointer(f"weights.{p}"), *words, layer.size(f"column.{product.preactivations[0]}")

    def operand(self, b: Builder, layer: _Fields, product: Product, tape: ir.Value, x: _Operand) -> _Operand:
        """The operand of a product over the whole sequence."""
        if product.operand == "x":
            return x
        stride = layer.size("tape_stride")
        # The state is heard one step late, what the step passes at once.
        first = b.at(tape, stride) if "." in product.operand else tape
        return _Operand(self.slot(b, layer, first, product.node), stride, layer.size("n_units"))

    # Forward

    def _emit_forward(self) -> None:
        """Runs the layer over a sequence x [n_steps, n_inputs] and fills the tape from row 1 on."""
        plan, call = self.plan, self.library
        layer_address, tape, x, x_stride, n_steps = self.forward.args
        b = Builder(self.target, self.forward)
        layer = self.layer(b, layer_address)
        columns, column_stride = layer.pointer("columns"), layer.size("column_stride")
        tape_stride, zeros, zero = layer.size("tape_stride"), layer.pointer("zeros"), b.const(0)

        def start_columns(column: ir.Value, width: ir.Value, *right: ir.Value) -> None:
            """Sets columns to x times the matrix `right`, given by its start, stride and number of rows."""
            w, w_stride, depth = right
            c = b.at(columns, column)
            b.call(call["gemm"], [c, column_stride, zeros, zero, x, x_stride, w, w_stride, n_steps, depth, width])

        for product in plan.inputs:
            w, w_stride, width, column = self.product(b, layer, product)
            start_columns(column, width, w, w_stride, layer.size("n_inputs"))
        hear_x = {name for product in plan.inputs for name in product.preactivations}
        for s, segment in enumerate(plan.segments):
            if segment[0] not in hear_x:
                width = layer.size(f"segment_width.{s}")
                start_columns(layer.size(f"column.{segment[0]}"), width, zeros, zero, zero)

        def step(t: ir.Value) -> None:
            past = b.at(tape, b.mul(t, tape_stride))
            now = b.at(past, tape_stride)
            row = b.at(columns, b.mul(t, column_stride))

            odd = b.and_(t, b.const(1))

            def multiply(product: Product, tape_row: ir.Value) -> None:
                w, w_stride, width, column = self.product(b, layer, product)
                h = self.slot(b, layer, tape_row, product.node)
                b.call(call["gemv"], [b.at(row, column), h, w, w_stride, layer.size("n_units"), width, odd])

            self._to_and_fro(b, odd, lambda product: multiply(product, past))
            for stage in plan.forward:
                for product in stage.products:
                    multiply(product, now)

                def units(j: ir.Value, stage: Stage = stage) -> None:
                    values = self._evaluate(b, layer, stage, j, past, now, row)
                    for node in stage.writes:
                        b.write(values[node], self.slot(b, layer, now, node), j)

                b.loop(0, layer.size("n_units"), self.target.lanes, units)

        b.loop(0, n_steps, 1, step)
        b.ret_void()

    # Backward

    def _emit_backward(self) -> None:
        """Replaces the columns by d loss / d pre-activation; adds to the gradients of the vectors.

        dy [n_steps, unit_stride] is d loss / d y as far as it comes from outside the layer.
        """
        plan, call = self.plan, self.library
        layer_address, tape, dy, n_steps = self.backward.args
        b = Builder(self.target, self.backward)
        layer = self.layer(b, layer_address)
        columns, column_stride = layer.pointer("columns"), layer.size("column_stride")
        tape_stride, unit_stride = layer.size("tape_stride"), layer.size("unit_stride")
        n_units, lanes = layer.size("n_units"), self.target.lanes
        states = list(plan.state)

        carried = b.mul(b.const(len(states)), unit_stride)
        b.loop(0, carried, lanes, lambda j: b.write(b.splat(0.0), layer.pointer("carry"), j))

        def step(back: ir.Value) -> None:
            t = b.sub(b.sub(n_steps, b.const(1)), back)
            past = b.at(tape, b.mul(t, tape_stride))
            now = b.at(past, tape_stride)
            row = b.at(columns, b.mul(t, column_stride))

            odd = b.and_(t, b.const(1))

            def multiply(product: Product, out: ir.Value, init: ir.Value) -> None:
                w, w_stride, width, column = self.product(b, layer, product)
                b.call(call["gemv_transposed"], [out, init, b.at(row, column), w, w_stride, n_units, width, odd])

            for stage in plan.backward:
                for product in stage.products:
                    multiply(product, self._fed(b, layer, product.operand), layer.pointer("zeros"))

                def units(j: ir.Value, stage: Stage = stage) -> None:
                    dy_row = b.at(dy, b.mul(t, unit_stride))
                    values = self._evaluate(b, layer, stage, j, past, now, row, dy_row)
                    mask = b.first_lanes(b.sub(n_units, j))
                    for name, node in stage.adjoints.items():
                        b.write_where(mask, values[node], b.at(row, layer.size(f"column.{name}")), j)
                        if name in plan.biases:
                            self._add(b, self.vector(b, layer, "gradients", plan.biases[name]), j, values[node])
                    if stage is plan.backward[-1]:
                        for name, node in plan.unit_gradients.items():
                            self._add(b, self.vector(b, layer, "gradients", name), j, values[node])
                        for name, node in plan.past.items():
                            b.write(values[node], self._carry(b, layer, name), j)

                b.loop(0, n_units, lanes, units)

            with b.if_then(b.icmp_signed(">", t, b.const(0))):

                def through_time(product: Product) -> None:
                    carry = self._carry(b, layer, product.operand)
                    multiply(product, carry, carry)

                self._to_and_fro(b, odd, through_time)

        b.loop(0, n_steps, 1, step)
        b.ret_void()

    def _to_and_fro(self, b: Builder, odd: ir.Value, multiply: Callable[[Product], None]) -> None:
        """Multiplies by the recurrent matrices, at every other step in reverse order.

        Where they do not all fit into the cache, each step starts with those that the last one has left there.
        """
        recurrent = self.plan.recurrent
        if len(recurrent) < 2:
            for product in recurrent:
                multiply(product)
            return
        with b.if_else(b.icmp_signed("!=", odd, b.const(0))) as (back, there):
            with back:
                for product in reversed(recurrent):
                    multiply(product)
            with there:
                for product in recurrent:
                    multiply(product)

    def _carry(self, b: Builder, layer: _Fields, state: str) -> ir.Value:
        place = b.const(list(self.plan.state).index(state))
        return b.at(layer.pointer("carry"), b.mul(place, layer.size("unit_stride")))

    def _fed(self, b: Builder, layer: _Fields, operand: str) -> ir.Value:
        place = b.const(self.fed.index(operand))
        return b.at(layer.pointer("fed"), b.mul(place, layer.size("unit_stride")))

    @staticmethod
    def _add(b: Builder, pointer: ir.Value, j: ir.Value, value: ir.Value) -> None:
        b.write(b.fadd(b.read(pointer, j), value), pointer, j)

    def _evaluate(
        self,
        b: Builder,
        layer: _Fields,
        stage: Stage,
        j: ir.Value,
        past: ir.Value,
        now: ir.Value,
        row: ir.Value,
        dy: ir.Value | None = None,
    ) -> dict[int, ir.Value]:
        """Emits the nodes of a stage for the vector of units from `j` on; the values by node."""
        plan = self.plan
        values = {node: b.read(self.slot(b, layer, now, node), j) for node in stage.loads}
        for index in stage.nodes:
            node = plan.nodes[index]
            match node.op:
                case "const":
                    value = b.splat(node.value)
                case "past":
                    value = b.read(self.slot(b, layer, past, plan.state[node.name]), j)
                case "pre":
                    value = b.read(b.at(row, layer.size(f"column.{node.name}")), j)
                    if node.name in plan.biases:
                        bias = self.vector(b, layer, "weights", plan.biases[node.name])
                        value = b.fadd(value, b.read(bias, j))
                case "unit":
                    value = b.read(self.vector(b, layer, "weights", node.name), j)
                case "adjoint":
                    value = b.read(self._carry(b, layer, node.name), j)
                    if node.name == "y":
                        value = b.fadd(value, b.read(dy, j))
                case "fed":
                    value = b.read(self._fed(b, layer, node.name), j)
                case operation:
                    value = vector_math.OPERATIONS[operation](b, *(values[a] for a in node.args))
            values[index] = value
        return values

    # Gradients of the matrices

    def each_gradient(
        self,
        b: Builder,
        layer: _Fields,
        tape: ir.Value,
        x: _Operand,
        n_steps: ir.Value,
        kernel: str,
        *rest: ir.Value,
    ) -> None:
        """Calls `kernel`, gemm_update or gemm_accumulate, with the gradient of each product's matrix."""
        updated = {"gemm_update": "weights", "gemm_accumulate": "gradients"}[kernel]
        for p, product in enumerate(self.plan.products):
            _, w_stride, width, column = self.product(b, layer, product)
            left = self.operand(b, layer, product, tape, x)
            d = b.at(layer.pointer("columns"), column)
            gradient = [w_stride, left.start, left.stride, d, layer.size("column_stride"), left.size, n_steps, width]
            b.call(self.library[kernel], [layer.pointer(f"{updated}.{p}"), *gradient, *rest])

    def parameters(self, b: Builder, layer: _Fields, logit_stride: ir.Value) -> Iterator[tuple[ir.Value, ...]]:
        """Weights, gradients and size of the arrays of all matrices of a layer, its part of the output's among them."""
        n_units = layer.size("n_units")
        for p, product in enumerate(self.plan.products):
            rows = layer.size("n_inputs") if product.operand == "x" else n_units
            size = b.mul(rows, layer.size(f"stride.{p}"))
            yield layer.pointer(f"weights.{p}"), layer.pointer(f"gradients.{p}"), size
        yield layer.pointer("out_weights"), layer.pointer("out_gradients"), b.mul(n_units, logit_stride)


def _epoch(b: Builder, job_address: ir.Value, cell: _Cell, loss: str, clips_norm: bool) -> None:
    """Trains on, or evaluates, each sequence of the order; returns 1 if it was told to stop."""
    call, lanes, kind = cell.library, cell.target.lanes, losses.find(loss)
    loss_function = call.get(loss) or loss_kernels.elementwise(cell.module, cell.target, kind)
    job = _Fields(b, job_address, layout.JOB)
    logits, logit_stride, logit_width = job.pointer("logits"), job.size("logit_stride"), job.size("logit_width")
    n_inputs, n_outputs, zeros, zero = job.size("n_inputs"), job.size("n_outputs"), job.pointer("zeros"), b.const(0)
    noise, distance = job.real("noise"), job.size("slot_distance")
    bias = [job.pointer("bias_weights"), job.pointer("bias_gradients"), b.mul(logit_width, b.const(lanes))]
    train = b.icmp_signed("!=", job.size("train"), zero)
    total, squares = b.alloca(DOUBLE), b.alloca(DOUBLE)
    b.store(ir.Constant(DOUBLE, 0.0), total)
    restore = b.flush_denormals()

    def add_to(sum: ir.Value, value: ir.Value) -> None:
        b.store(b.fadd(b.load(sum, typ=DOUBLE), value), sum)

    def sequence(position: ir.Value) -> None:
        stop = b.load(job.pointer("stop"), typ=INT32, align=4)
        with b.if_then(b.icmp_signed("!=", stop, ir.Constant(INT32, 0)), likely=False):
            restore()
            b.ret(ir.Constant(INT32, 1))
        order = b.gep(job.pointer("order"), [position], source_etype=INT32)
        index = b.sext(b.load(order, typ=INT32, align=4), INT)
        n_steps, first, target, n_targets = (
            b.load(b.gep(job.pointer(name), [index], source_etype=INT), typ=INT, align=8)
            for name in ("lengths", "starts", "target_starts", "target_lengths")
        )
        last = b.sub(n_steps, b.const(1))
        update = (distance, b.at(job.pointer("shared"), b.mul(position, job.size("n_shared"))))
        clean = b.at(job.pointer("inputs"), b.mul(first, n_inputs))
        noisy = b.fcmp_unordered("!=", noise, ir.Constant(cell.target.real, 0.0))
        with b.if_then(noisy):
            size = b.mul(n_steps, n_inputs)
            seeds = (job.size("seed"), index, job.size("epoch"))
            b.call(call["input_noise"], [job.pointer("noisy"), clean, noise, size, *seeds])
        x = b.select(noisy, job.pointer("noisy"), clean)

        def directions(body: Callable[[_Fields, ir.Value, ir.Value, _Walk], None]) -> None:
            """Runs the body for each direction, with its layer, and with `walk` for rows in its order of time."""

            def direction(d: ir.Value) -> None:
                backward = b.icmp_signed("!=", d, zero)
                place = b.mul(d, b.const(len(cell.fields)))
                layer = cell.layer(b, b.gep(job.pointer("layers"), [place], source_etype=INT))

                def walk(start: ir.Value, stride: ir.Value) -> tuple[ir.Value, ir.Value]:
                    end = b.at(start, b.mul(last, stride))
                    return b.select(backward, end, start), b.select(backward, b.neg(stride), stride)

                body(layer, layer.pointer("tape"), backward, walk)

            b.loop(0, job.size("n_directions"), 1, direction)

        def output(layer: _Fields, tape: ir.Value) -> ir.Value:
            """The layer's y at the first step, in its tape."""
            return cell.slot(b, layer, b.at(tape, layer.size("tape_stride")), cell.plan.state["y"])

        def forward(layer: _Fields, tape: ir.Value, backward: ir.Value, walk: _Walk) -> None:
            b.call(cell.forward, [layer.start, tape, *walk(x, n_inputs), n_steps])
            init = b.select(backward, logits, job.pointer("bias_weights"))
            init_stride = b.select(backward, logit_stride, zero)
            y = walk(output(layer, tape), layer.size("tape_stride"))
            w = (layer.pointer("out_weights"), logit_stride, n_steps, layer.size("n_units"), logit_width)
            b.call(call["gemm"], [logits, logit_stride, init, init_stride, *y, *w])

        def backward(layer: _Fields, tape: ir.Value, _: ir.Value, walk: _Walk) -> None:
            n_units, unit_stride, tape_stride = (layer.size(n) for n in ("n_units", "unit_stride", "tape_stride"))
            w, w_t, dy = (layer.pointer(name) for name in ("out_weights", "out_transposed", "dy"))
            d_logits = walk(logits, logit_stride)
            b.call(call["transpose"], [w_t, unit_stride, w, logit_stride, n_units, n_outputs])
            units = b.sdiv(unit_stride, b.const(lanes))
            right = (w_t, unit_stride, n_steps, n_outputs, units)
            b.call(call["gemm"], [dy, unit_stride, zeros, zero, *d_logits, *right])
            b.call(cell.backward, [layer.start, tape, dy, n_steps])
            x_first, x_step = walk(x, n_inputs)
            inputs = _Operand(x_first, x_step, n_inputs)
            left = (output(layer, tape), tape_stride, *d_logits, n_units, n_steps, logit_width)
            if clips_norm:
                cell.each_gradient(b, layer, tape, inputs, n_steps, "gemm_accumulate")
                b.call(call["gemm_accumulate"], [layer.pointer("out_gradients"), logit_stride, *left])
            else:
                cell.each_gradient(b, layer, tape, inputs, n_steps, "gemm_update", *update)
                b.call(call["gemm_update"], [w, logit_stride, *left, *update])
                if cell.plan.vectors:
                    b.call(call["update"], [*vectors(layer), *update])

        def vectors(layer: _Fields) -> tuple[ir.Value, ...]:
            size = b.mul(b.const(len(cell.plan.vectors)), layer.size("unit_stride"))
            return layer.pointer("vector_weights"), layer.pointer("vector_gradients"), size

        def add_squares(layer: _Fields, *_: object) -> None:
            arrays = [*cell.parameters(b, layer, logit_stride), *([vectors(layer)] if cell.plan.vectors else [])]
            for _, gradients, size in arrays:
                add_to(squares, b.call(call["sum_of_squares"], [gradients, size]))

        def update_all(layer: _Fields, *_: object) -> None:
            arrays = [*cell.parameters(b, layer, logit_stride), *([vectors(layer)] if cell.plan.vectors else [])]
            for array in arrays:
                b.call(call["update"], [*array, *update])

        directions(forward)
        counted = kind.counts_errors  # of which the host takes the sum, and not of the loss
        targets = b.gep(
            job.pointer("targets"), [target], source_etype=INT32 if kind.targets.classes else cell.target.real
        )
        with b.if_then(b.or_(train, ir.Constant(ir.IntType(1), not counted))):
            where = [logits, logit_stride, targets, n_targets, n_steps, n_outputs, bias[1], job.pointer("scratch")]
            add_to(total, b.call(loss_function, where))
        if counted:
            with b.if_then(b.not_(train)):
                best = b.gep(job.pointer("best"), [first], source_etype=INT32)
                b.call(call["best_path"], [logits, logit_stride, n_steps, n_outputs, best])
        with b.if_then(train):
            directions(backward)
            if clips_norm:
                b.store(ir.Constant(DOUBLE, 0.0), squares)
                directions(add_squares)
                add_to(squares, b.call(call["sum_of_squares"], [bias[1], bias[2]]))
                _scale(b, b.at(update[1], job.size("scale_place")), b.load(squares, typ=DOUBLE))
                directions(update_all)
            b.call(call["update"], [*bias, *update])

    b.loop(0, job.size("n_sequences"), 1, sequence)
    b.store(b.load(total, typ=DOUBLE), job.address("loss"))
    restore()
    b.ret(ir.Constant(INT32, 0))


def _scale(b: Builder, place: ir.Value, squares: ir.Value) -> None:
    """Replaces the bound of the norm of gradients by the factor that keeps them within it."""
    bound = b.load(place, typ=b.target.real, align=b.target.itemsize)
    norm = b.call(b.module.declare_intrinsic("llvm.sqrt", [DOUBLE]), [squares])
    double = b.target.real == DOUBLE
    factor = b.fdiv(bound if double else b.fpext(bound, DOUBLE), norm)
    one = ir.Constant(DOUBLE, 1.0)
    factor = b.select(b.fcmp_ordered("<", factor, one), factor, one)
    b.store(factor if double else b.fptrunc(factor, b.target.real), place, align=b.target.itemsize)


def _unroll_forward(b: Builder, job_address: ir.Value, cell: _Cell) -> None:
    """Runs a layer over each sequence of a batch x [n_steps, n_batch, n_inputs], each with its own tape."""
    job = _Fields(b, job_address, layout.UNROLL)
    layer = cell.layer(b, job.pointer("layer"))
    n_inputs = layer.size("n_inputs")
    stride = b.mul(job.size("n_batch"), n_inputs)

    def sequence(i: ir.Value) -> None:
        tape = b.at(job.pointer("tape"), b.mul(i, job.size("tape_size")))
        x = b.at(job.pointer("x"), b.mul(i, n_inputs))
        b.call(cell.forward, [layer.start, tape, x, stride, job.size("n_steps")])

    b.loop(0, job.size("n_batch"), 1, sequence)
    b.ret(ir.Constant(INT32, 0))


def _unroll_backward(b: Builder, job_address: ir.Value, cell: _Cell) -> None:
    """Adds up the gradients of the parameters over a batch; writes dx, for each sequence [n_steps, dx_stride].

    `transposed` holds the transposed blocks of the products with x, row by row dx_stride, one below the other.
    """
    job = _Fields(b, job_address, layout.UNROLL)
    layer = cell.layer(b, job.pointer("layer"))
    n_inputs, n_steps, dx_stride = layer.size("n_inputs"), job.size("n_steps"), job.size("dx_stride")
    stride = b.mul(job.size("n_batch"), n_inputs)

    def sequence(i: ir.Value) -> None:
        tape = b.at(job.pointer("tape"), b.mul(i, job.size("tape_size")))
        dy = b.at(job.pointer("dy"), b.mul(i, job.size("dy_size")))
        x = _Operand(b.at(job.pointer("x"), b.mul(i, n_inputs)), stride, n_inputs)
        b.call(cell.backward, [layer.start, tape, dy, n_steps])
        cell.each_gradient(b, layer, tape, x, n_steps, "gemm_accumulate")
        dx = b.at(job.pointer("dx"), b.mul(b.mul(i, n_steps), dx_stride))
        w = job.pointer("transposed")
        init = (layer.pointer("zeros"), b.const(0))
        for product in cell.plan.inputs:
            _, _, width, column = cell.product(b, layer, product)
            d = (b.at(layer.pointer("columns"), column), layer.size("column_stride"))
            depth = b.mul(width, b.const(cell.target.lanes))
            size = (n_steps, depth, b.sdiv(dx_stride, b.const(cell.target.lanes)))
            b.call(cell.library["gemm"], [dx, dx_stride, *init, *d, w, dx_stride, *size])
            init = (dx, dx_stride)
            w = b.at(w, b.mul(depth, dx_stride))

    b.loop(0, job.size("n_batch"), 1, sequence)
    b.ret(ir.Constant(INT32, 0))
