"""The kernels of one cell, printed from its plan: a layer forward and backward over a sequence."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llvmlite import ir

from search.engines.cpu import layout, routines, vector_math
from search.engines.cpu.fields import Fields
from search.engines.cpu.llvm import INT, INT32, POINTER, ROW_TILE, VOID, Builder, Target
from search.engines.cpu.parts import Part, each_part, window
from search.engines.plan import Plan, Product, Stage


@dataclass
class Operand:
    """The left side of a matrix product: rows of numbers, one for each time step."""

    start: ir.Value
    stride: ir.Value
    size: ir.Value


class CellKernels:
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

    def layer(self, b: Builder, address: ir.Value) -> Fields:
        return Fields(b, address, self.fields)

    # Parts of a layer

    def slot(self, b: Builder, layer: Fields, row: ir.Value, node: int) -> ir.Value:
        """Address of a node's values in a row of the tape."""
        return b.at(row, b.mul(b.const(self.plan.tape[node]), layer.size("unit_stride")))

    def vector(self, b: Builder, layer: Fields, kind: str, name: str) -> ir.Value:
        """Address of a parameter that has one number for each unit; `kind` is weights or gradients."""
        place = b.const(self.plan.vectors.index(name))
        return b.at(layer.pointer(f"vector_{kind}"), b.mul(place, layer.size("unit_stride")))

    def product(self, b: Builder, layer: Fields, product: Product) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
        """A product's matrix, its stride, its width in vectors, and its first column."""
        p = self.plan.products.index(product)
        words = (layer.size(f"stride.{p}"), layer.size(f"width.{p}"))
        return layer.pointer(f"weights.{p}"), *words, layer.size(f"column.{product.preactivations[0]}")

    def _window(
        self, b: Builder, layer: Fields, product: Product, t: ir.Value
    ) -> tuple[Part, tuple[ir.Value, ir.Value], ir.Value]:
        """What counts of a product at step `t`: where, the start and stride of its matrix, and its first column."""
        w, stride, _, column = self.product(b, layer, product)
        part = window(b, layer, self.plan, product, t)
        start = b.at(w, b.add(b.mul(part.row, stride), part.column))
        return part, (start, stride), b.add(column, part.column)

    def operand(self, b: Builder, layer: Fields, product: Product, tape: ir.Value, x: Operand) -> Operand:
        """The operand of a product over the whole sequence."""
        if product.operand == "x":
            return x
        stride = layer.size("tape_stride")
        # The state is heard one step late, what the step passes at once.
        first = b.at(tape, stride) if "." in product.operand else tape
        return Operand(self.slot(b, layer, first, product.node), stride, layer.size("n_units"))

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
            if plan.partial:
                start_columns(column, width, zeros, zero, zero)
                self._start_parts(b, layer, product, Operand(x, x_stride, layer.size("n_inputs")), n_steps)
            else:
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
                part, w, column = self._window(b, layer, product, t)
                h = b.at(self.slot(b, layer, tape_row, product.node), part.row)
                b.call(call["gemv"], [b.at(row, column), h, *w, part.rows, part.width, odd])

            self._to_and_fro(b, odd, lambda product: multiply(product, past))
            for stage in plan.forward:
                for product in stage.products:
                    multiply(product, now)
                self._take_means(b, layer, stage)

                def units(j: ir.Value, stage: Stage = stage) -> None:
                    values = self._evaluate(b, layer, stage, t, j, past, now, row)
                    self._sum(b, layer, stage, j, values)
                    for node in stage.writes:
                        b.write(values[node], self.slot(b, layer, now, node), j)

                b.loop(0, layer.size("n_units"), self.target.lanes, units)

        b.loop(0, n_steps, 1, step)
        b.ret_void()

    def _start_parts(self, b: Builder, layer: Fields, product: Product, x: Operand, n_steps: ir.Value) -> None:
        """Sets those columns of a product with x that count, at the steps at which they do."""
        w, w_stride, _, column = self.product(b, layer, product)
        columns, column_stride = layer.pointer("columns"), layer.size("column_stride")
        init, tile = (layer.pointer("zeros"), b.const(0)), b.const(ROW_TILE)

        def start(part: Part) -> None:
            def rows(first: ir.Value, every: ir.Value, n: ir.Value) -> None:
                c = b.at(columns, b.add(b.add(column, part.column), b.mul(first, column_stride)))
                left = (b.at(x.start, b.mul(first, x.stride)), b.mul(x.stride, every))
                right = (b.at(w, part.column), w_stride, n, x.size, part.width)
                b.call(self.library["gemm"], [c, b.mul(column_stride, every), *init, *left, *right])

            # A last tile must not go on far behind the sequence. Where not even one is full, all steps are computed.
            with b.if_then(b.icmp_signed(">", part.n, b.const(0))):
                few = b.icmp_signed("<", part.n, tile)
                whole = b.select(few, n_steps, b.and_(part.n, b.const(-ROW_TILE)))
                rows(b.select(few, b.const(0), part.first), b.select(few, b.const(1), part.every), whole)
                with b.if_then(b.icmp_signed(">", part.n, whole)):
                    rows(b.add(part.first, b.mul(b.sub(part.n, tile), part.every)), part.every, tile)

        each_part(b, layer, self.plan, product, x.size, n_steps, start)

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
                part, w, column = self._window(b, layer, product, t)
                sums = (b.at(out, part.row), b.at(init, part.row))
                b.call(call["gemv_transposed"], [*sums, b.at(row, column), *w, part.rows, part.width, odd])

            for stage in plan.backward:
                for product in stage.products:
                    multiply(product, self._fed(b, layer, product.operand), layer.pointer("zeros"))
                self._take_means(b, layer, stage)

                def units(j: ir.Value, stage: Stage = stage) -> None:
                    dy_row = b.at(dy, b.mul(t, unit_stride))
                    values = self._evaluate(b, layer, stage, t, j, past, now, row, dy_row)
                    self._sum(b, layer, stage, j, values)
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
                        for name, node in plan.below.items():
                            b.write(values[node], self._below(b, layer, "d_below", t, name), j)

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

    def _carry(self, b: Builder, layer: Fields, state: str) -> ir.Value:
        place = b.const(list(self.plan.state).index(state))
        return b.at(layer.pointer("carry"), b.mul(place, layer.size("unit_stride")))

    def _sum(self, b: Builder, layer: Fields, stage: Stage, j: ir.Value, values: dict[int, ir.Value]) -> None:
        """Writes what a stage has of the arguments of means, for the vector of units from `j` on."""
        mask = b.first_lanes(b.sub(layer.size("n_units"), j)) if stage.summed else None
        for node in stage.summed:
            b.write_where(mask, values[self.plan.nodes[node].args[0]], self._summed(b, layer, node), j)

    def _take_means(self, b: Builder, layer: Fields, stage: Stage) -> None:
        """Takes the means that a stage needs, in an order of the units that is always the same."""
        n_units = layer.size("n_units")
        for node in stage.means:

            def add(j: ir.Value, total: ir.Value, node: int = node) -> list[ir.Value]:
                return [b.fadd(total, b.read(self._summed(b, layer, node), j))]

            (total,) = b.loop(0, n_units, self.target.lanes, add, [b.splat(0.0)])
            mean = b.fdiv(b.sum_lanes(total), b.sitofp(n_units, self.target.real))
            place = b.at(layer.pointer("means"), self.plan.means.index(node))
            b.store(mean, place, align=self.target.itemsize)

    def _summed(self, b: Builder, layer: Fields, node: int) -> ir.Value:
        place = b.const(self.plan.means.index(node))
        return b.at(layer.pointer("summed"), b.mul(place, layer.size("unit_stride")))

    def _below(self, b: Builder, layer: Fields, array: str, t: ir.Value, name: str) -> ir.Value:
        """Address of the derivative by what a layer reads of the one below: ``d_below``, or ``from_above`` it."""
        row = b.at(layer.pointer(array), b.mul(t, layer.size(f"{array}_stride")))
        return b.at(row, b.mul(b.const(list(self.plan.below).index(name)), layer.size("unit_stride")))

    def _fed(self, b: Builder, layer: Fields, operand: str) -> ir.Value:
        place = b.const(self.fed.index(operand))
        return b.at(layer.pointer("fed"), b.mul(place, layer.size("unit_stride")))

    @staticmethod
    def _add(b: Builder, pointer: ir.Value, j: ir.Value, value: ir.Value) -> None:
        b.write(b.fadd(b.read(pointer, j), value), pointer, j)

    def _evaluate(
        self,
        b: Builder,
        layer: Fields,
        stage: Stage,
        t: ir.Value,
        j: ir.Value,
        past: ir.Value,
        now: ir.Value,
        row: ir.Value,
        dy: ir.Value | None = None,
    ) -> dict[int, ir.Value]:
        """Emits the nodes of a stage at step `t` for the vector of units from `j` on; the values by node."""
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
                case "constant":
                    place = b.mul(b.const(plan.constants.index(node.name)), layer.size("unit_stride"))
                    value = b.read(b.at(layer.pointer("constants"), place), j)
                case "below":
                    lower = b.at(layer.pointer("below"), b.mul(t, layer.size("below_stride")))
                    value = b.read(self.slot(b, layer, lower, plan.state[node.name]), j)
                case "mean":
                    value = b.splat(b.read_one(layer.pointer("means"), plan.means.index(index)))
                case "time":
                    value = b.splat(b.sitofp(t, self.target.real))
                case "adjoint":
                    value = b.read(self._carry(b, layer, node.name), j)
                    if node.name == "y":
                        value = b.fadd(value, b.read(dy, j))
                    if node.name in plan.below:
                        value = b.fadd(value, b.read(self._below(b, layer, "from_above", t, node.name), j))
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
        layer: Fields,
        tape: ir.Value,
        x: Operand,
        n_steps: ir.Value,
        kernel: str,
        *rest: ir.Value,
    ) -> None:
        """Calls `kernel`, gemm_update or gemm_accumulate, with the gradient of each product's matrix."""
        updated = {"gemm_update": "weights", "gemm_accumulate": "gradients"}[kernel]
        d_stride = layer.size("column_stride")
        for p, product in enumerate(self.plan.products):
            _, w_stride, _, column = self.product(b, layer, product)
            left = self.operand(b, layer, product, tape, x)
            w, d = layer.pointer(f"{updated}.{p}"), b.at(layer.pointer("columns"), column)

            def gradient(
                part: Part, w: ir.Value = w, w_stride: ir.Value = w_stride, left: Operand = left, d: ir.Value = d
            ) -> None:
                place = b.at(w, b.add(b.mul(part.row, w_stride), part.column))
                a = (b.at(left.start, b.add(part.row, b.mul(part.first, left.stride))), b.mul(left.stride, part.every))
                right = (b.at(d, b.add(part.column, b.mul(part.first, d_stride))), b.mul(d_stride, part.every))
                size = (part.rows, part.n, part.width)
                b.call(self.library[kernel], [place, w_stride, *a, *right, *size, *rest])

            each_part(b, layer, self.plan, product, left.size, n_steps, gradient)

    def owned(self, b: Builder, layer: Fields, size: ir.Value) -> ir.Value:
        """The size of an array of parameters, or 0 if they are another layer's."""
        if not self.plan.tied:
            return size
        return b.select(b.icmp_signed("!=", layer.size("owns"), b.const(0)), size, b.const(0))

    def parameters(self, b: Builder, layer: Fields, logit_stride: ir.Value) -> Iterator[tuple[ir.Value, ...]]:
        """Weights, gradients and size of the arrays of all matrices of a layer, its part of the output's among them."""
        n_units = layer.size("n_units")
        for p, product in enumerate(self.plan.products):
            rows = layer.size("n_inputs") if product.operand == "x" else n_units
            size = self.owned(b, layer, b.mul(rows, layer.size(f"stride.{p}")))
            yield layer.pointer(f"weights.{p}"), layer.pointer(f"gradients.{p}"), size
        heard = b.icmp_signed("!=", layer.size("heard"), b.const(0))
        size = b.select(heard, b.mul(n_units, logit_stride), b.const(0))
        yield layer.pointer("out_weights"), layer.pointer("out_gradients"), size
