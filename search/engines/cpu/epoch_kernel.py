"""The kernel of an epoch: a network over the sequences of a split, with an update after each in training."""

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from search import losses
from search.engines.cpu import layout, loss_kernels
from search.engines.cpu.cell import CellKernels, Operand
from search.engines.cpu.fields import Fields
from search.engines.cpu.llvm import DOUBLE, INT, INT32, Builder

Rows = tuple[ir.Value, ir.Value]  # the first of them, and their stride


def epoch(b: Builder, job: ir.Value, cell: CellKernels, loss: str, clips_norm: bool) -> None:
    """Trains on, or evaluates, each sequence of the order; returns 1 if it was told to stop."""
    _Epoch(b, job, cell, loss, clips_norm).emit()


@dataclass
class _Sequence:
    """A sequence, as the kernel is at it.

    Attributes:
        index: in the split.
        n_steps: of it.
        x: the inputs of the network.
        update: the last arguments of a kernel that updates.
    """

    index: ir.Value
    n_steps: ir.Value
    x: ir.Value
    update: tuple[ir.Value, ir.Value]


@dataclass
class _Layer:
    """One direction of one layer, as the kernel is at it.

    Attributes:
        fields: of its record.
        bottom, top: whether it is of the first, of the last layer.
        back: whether it reads backward in time.
        walk: rows in its order of time.
    """

    fields: Fields
    bottom: ir.Value
    top: ir.Value
    back: ir.Value
    walk: Callable[[ir.Value, ir.Value], Rows]

    @property
    def tape(self) -> ir.Value:
        return self.fields.pointer("tape")


class _Epoch:
    def __init__(self, b: Builder, job: ir.Value, cell: CellKernels, loss: str, clips_norm: bool):
        self.b, self.cell, self.clips_norm, self.call = b, cell, clips_norm, cell.library
        self.waits = clips_norm or cell.plan.tied  # with updates for the gradients of all layers
        self.kind = losses.find(loss)
        self.loss_function = self.call.get(loss) or loss_kernels.elementwise(cell.module, cell.target, self.kind)
        self.job = job_fields = Fields(b, job, layout.JOB)
        self.logits = (job_fields.pointer("logits"), job_fields.size("logit_stride"))
        self.logit_width, self.zero = job_fields.size("logit_width"), b.const(0)
        self.n_inputs, self.n_outputs = job_fields.size("n_inputs"), job_fields.size("n_outputs")
        self.noise, self.distance = job_fields.real("noise"), job_fields.size("slot_distance")
        size = b.mul(self.logit_width, b.const(cell.target.lanes))
        self.bias = [job_fields.pointer("bias_weights"), job_fields.pointer("bias_gradients"), size]
        self.train = b.icmp_signed("!=", job_fields.size("train"), self.zero)
        self.total, self.squares = b.alloca(DOUBLE), b.alloca(DOUBLE)

    def emit(self) -> None:
        b = self.b
        b.store(ir.Constant(DOUBLE, 0.0), self.total)
        restore = b.flush_denormals()

        def sequence(position: ir.Value) -> None:
            stop = b.load(self.job.pointer("stop"), typ=INT32, align=4)
            with b.if_then(b.icmp_signed("!=", stop, ir.Constant(INT32, 0)), likely=False):
                restore()
                b.ret(ir.Constant(INT32, 1))
            self._sequence(position)

        b.loop(0, self.job.size("n_sequences"), 1, sequence)
        b.store(b.load(self.total, typ=DOUBLE), self.job.address("loss"))
        restore()
        b.ret(ir.Constant(INT32, 0))

    def _sequence(self, position: ir.Value) -> None:
        b, job = self.b, self.job
        order = b.gep(job.pointer("order"), [position], source_etype=INT32)
        index = b.sext(b.load(order, typ=INT32, align=4), INT)
        n_steps, first, target, n_targets = (
            b.load(b.gep(job.pointer(name), [index], source_etype=INT), typ=INT, align=8)
            for name in ("lengths", "starts", "target_starts", "target_lengths")
        )
        update = (self.distance, b.at(job.pointer("shared"), b.mul(position, job.size("n_shared"))))
        at = _Sequence(index, n_steps, self._inputs(index, first, n_steps), update)
        self._layers(at, self._forward)
        counted = self.kind.counts_errors  # of which the host takes the sum, and not of the loss
        classes = self.kind.targets.classes
        targets = b.gep(job.pointer("targets"), [target], source_etype=INT32 if classes else self.cell.target.real)
        with b.if_then(b.or_(self.train, ir.Constant(ir.IntType(1), not counted))):
            where = [*self.logits, targets, n_targets, n_steps, self.n_outputs, self.bias[1], job.pointer("scratch")]
            self._add_to(self.total, b.call(self.loss_function, where))
        if counted:
            with b.if_then(b.not_(self.train)):
                best = b.gep(job.pointer("best"), [first], source_etype=INT32)
                b.call(self.call["best_path"], [*self.logits, n_steps, self.n_outputs, best])
        with b.if_then(self.train):
            self._layers(at, self._backward, down=True)
            if self.waits:
                self._update_layers(at)
            b.call(self.call["update"], [*self.bias, *update])

    def _add_to(self, total: ir.Value, value: ir.Value) -> None:
        self.b.store(self.b.fadd(self.b.load(total, typ=DOUBLE), value), total)

    def _inputs(self, index: ir.Value, first: ir.Value, n_steps: ir.Value) -> ir.Value:
        """The inputs of the network, with noise where there is any."""
        b, job = self.b, self.job
        clean = b.at(job.pointer("inputs"), b.mul(first, self.n_inputs))
        noisy = b.fcmp_unordered("!=", self.noise, ir.Constant(self.cell.target.real, 0.0))
        with b.if_then(noisy):
            size = b.mul(n_steps, self.n_inputs)
            seeds = (job.size("seed"), index, job.size("epoch"))
            b.call(self.call["input_noise"], [job.pointer("noisy"), clean, self.noise, size, *seeds])
        return b.select(noisy, job.pointer("noisy"), clean)

    def _layers(self, at: _Sequence, body: Callable[[_Sequence, _Layer], None], down: bool = False) -> None:
        """Runs the body for each layer, from bottom to top or `down`, and in each for both directions."""
        b, n_levels, n_directions = self.b, self.job.size("n_levels"), self.job.size("n_directions")
        highest, last = b.sub(n_levels, b.const(1)), b.sub(at.n_steps, b.const(1))

        def level(turn: ir.Value) -> None:
            at_level = b.sub(highest, turn) if down else turn
            bottom = b.icmp_signed("==", at_level, self.zero)
            top = b.icmp_signed("==", at_level, highest)

            def direction(d: ir.Value) -> None:
                back = b.icmp_signed("!=", d, self.zero)
                place = b.mul(b.add(b.mul(at_level, n_directions), d), b.const(len(self.cell.fields)))
                fields = self.cell.layer(b, b.gep(self.job.pointer("layers"), [place], source_etype=INT))

                def walk(start: ir.Value, stride: ir.Value) -> Rows:
                    end = b.at(start, b.mul(last, stride))
                    return b.select(back, end, start), b.select(back, b.neg(stride), stride)

                body(at, _Layer(fields, bottom, top, back, walk))

            b.loop(0, n_directions, 1, direction)

        b.loop(0, n_levels, 1, level)

    def _heard(self, at: _Sequence, layer: _Layer) -> Operand:
        """What a layer hears, in its order of time."""
        b = self.b
        start = b.select(layer.bottom, at.x, layer.fields.pointer("inputs"))
        stride = b.select(layer.bottom, self.n_inputs, layer.fields.size("input_stride"))
        return Operand(*layer.walk(start, stride), layer.fields.size("n_inputs"))

    def _output(self, layer: _Layer) -> Rows:
        """The layer's y, in its tape."""
        stride = layer.fields.size("tape_stride")
        row = self.b.at(layer.tape, stride)
        return self.cell.slot(self.b, layer.fields, row, self.cell.plan.state["y"]), stride

    def _forward(self, at: _Sequence, layer: _Layer) -> None:
        b, fields = self.b, layer.fields
        x = self._heard(at, layer)
        b.call(self.cell.forward, [fields.start, layer.tape, x.start, x.stride, at.n_steps])
        y = layer.walk(*self._output(layer))
        n_units, heard = fields.size("n_units"), fields.size("heard")
        with b.if_then(b.icmp_signed("!=", heard, self.zero)):
            first = b.icmp_signed("==", heard, b.const(1))  # the others add to what it gives
            init = b.select(first, self.bias[0], self.logits[0])
            init_stride = b.select(first, self.zero, self.logits[1])
            w = (fields.pointer("out_weights"), self.logits[1], at.n_steps, n_units, self.logit_width)
            b.call(self.call["gemm"], [*self.logits, init, init_stride, *y, *w])
        with b.if_then(b.not_(layer.top)):
            above = (fields.pointer("outputs"), fields.size("output_stride"))
            b.call(self.call["add_rows"], [*above, fields.pointer("zeros"), self.zero, *y, at.n_steps, n_units])

    def _backward(self, at: _Sequence, layer: _Layer) -> None:
        b, fields = self.b, layer.fields
        dy, n_units = fields.pointer("dy"), fields.size("n_units")
        heard = b.icmp_signed("!=", fields.size("heard"), self.zero)
        d_logits = layer.walk(*self.logits)
        self._d_output(at, layer, heard, d_logits)
        b.call(self.cell.backward, [fields.start, layer.tape, dy, at.n_steps])
        with b.if_then(b.not_(layer.bottom)):
            self._d_inputs(at, layer)
        left = (*self._output(layer), *d_logits, n_units, at.n_steps, self.logit_width)
        inputs = self._heard(at, layer)
        kernel, rest = ("gemm_accumulate", ()) if self.waits else ("gemm_update", at.update)
        self.cell.each_gradient(b, fields, layer.tape, inputs, at.n_steps, kernel, *rest)
        with b.if_then(heard):
            w = fields.pointer("out_gradients" if self.waits else "out_weights")
            b.call(self.call[kernel], [w, self.logits[1], *left, *rest])
        if self.cell.plan.vectors and not self.waits:
            b.call(self.call["update"], [*self._vectors(fields), *at.update])

    def _d_output(self, at: _Sequence, layer: _Layer, heard: ir.Value, d_logits: Rows) -> None:
        """The derivative of the loss by the layer's y, in its order of time, as far as it comes from above it."""
        b, fields = self.b, layer.fields
        dy, n_units, stride = fields.pointer("dy"), fields.size("n_units"), fields.size("unit_stride")
        zeros = (fields.pointer("zeros"), self.zero)
        with b.if_then(heard):
            w, w_t = fields.pointer("out_weights"), fields.pointer("out_transposed")
            b.call(self.call["transpose"], [w_t, stride, w, self.logits[1], n_units, self.n_outputs])
            right = (w_t, stride, at.n_steps, self.n_outputs, b.sdiv(stride, b.const(self.cell.target.lanes)))
            b.call(self.call["gemm"], [dy, stride, *zeros, *d_logits, *right])
        with b.if_then(b.not_(layer.top)):
            init = b.select(heard, dy, zeros[0]), b.select(heard, stride, self.zero)
            above = layer.walk(fields.pointer("d_outputs"), fields.size("output_stride"))
            b.call(self.call["add_rows"], [dy, stride, *init, *above, at.n_steps, n_units])

    def _d_inputs(self, at: _Sequence, layer: _Layer) -> None:
        """The derivative of the loss by what the layer hears, to which both directions add."""
        b, fields, lanes = self.b, layer.fields, self.cell.target.lanes
        out = (fields.pointer("d_inputs"), fields.size("input_stride"))
        stride, n_inputs, w_t = out[1], fields.size("n_inputs"), fields.pointer("in_transposed")
        added = b.select(layer.back, out[0], fields.pointer("zeros")), b.select(layer.back, stride, self.zero)
        for product in self.cell.plan.inputs:
            w, w_stride, width, column = self.cell.product(b, fields, product)
            depth = b.mul(width, b.const(lanes))
            b.call(self.call["transpose"], [w_t, stride, w, w_stride, n_inputs, depth])
            d = layer.walk(b.at(fields.pointer("columns"), column), fields.size("column_stride"))
            size = (at.n_steps, depth, b.sdiv(stride, b.const(lanes)))
            b.call(self.call["gemm"], [*out, *added, *d, w_t, stride, *size])
            added = out

    def _vectors(self, fields: Fields) -> tuple[ir.Value, ...]:
        size = self.b.mul(self.b.const(len(self.cell.plan.vectors)), fields.size("unit_stride"))
        size = self.cell.owned(self.b, fields, size)
        return fields.pointer("vector_weights"), fields.pointer("vector_gradients"), size

    def _update_layers(self, at: _Sequence) -> None:
        """Updates the parameters of all layers once all gradients are known, and their norm where that is clipped."""
        b = self.b

        def arrays(layer: _Layer) -> list[tuple[ir.Value, ...]]:
            matrices = self.cell.parameters(b, layer.fields, self.logits[1])
            return [*matrices, *([self._vectors(layer.fields)] if self.cell.plan.vectors else [])]

        def add_squares(_: _Sequence, layer: _Layer) -> None:
            for _, gradients, size in arrays(layer):
                self._add_to(self.squares, b.call(self.call["sum_of_squares"], [gradients, size]))

        def update(at: _Sequence, layer: _Layer) -> None:
            for array in arrays(layer):
                b.call(self.call["update"], [*array, *at.update])

        if self.clips_norm:
            b.store(ir.Constant(DOUBLE, 0.0), self.squares)
            self._layers(at, add_squares)
            self._add_to(self.squares, b.call(self.call["sum_of_squares"], self.bias[1:]))
            _scale(b, b.at(at.update[1], self.job.size("scale_place")), b.load(self.squares, typ=DOUBLE))
        self._layers(at, update)


def _scale(b: Builder, place: ir.Value, squares: ir.Value) -> None:
    """Replaces the bound of the norm of gradients by the factor that keeps them within it."""
    bound = b.load(place, typ=b.target.real, align=b.target.itemsize)
    norm = b.call(b.module.declare_intrinsic("llvm.sqrt", [DOUBLE]), [squares])
    double = b.target.real == DOUBLE
    factor = b.fdiv(bound if double else b.fpext(bound, DOUBLE), norm)
    one = ir.Constant(DOUBLE, 1.0)
    factor = b.select(b.fcmp_ordered("<", factor, one), factor, one)
    b.store(factor if double else b.fptrunc(factor, b.target.real), place, align=b.target.itemsize)
