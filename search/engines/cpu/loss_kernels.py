"""The losses as LLVM functions, and the reading of the best path: of elementwise losses by their equations.

A loss is ``double loss(logits, stride, targets, n_targets, steps, outputs, bias_gradient, scratch)``: of logits
[steps, stride], of which the first `outputs` of a row count, it returns the loss of the sequence, replaces the logits
by the derivatives with respect to them (zero beyond `outputs`), and writes the sums of those over time into
`bias_gradient`. `targets` are numbers [steps, outputs], or `n_targets` classes, int32.
"""

from collections.abc import Callable

from llvmlite import ir

from search.engines.cpu import logit_rows, vector_math
from search.engines.cpu.ctc import ctc
from search.engines.cpu.llvm import DOUBLE, INT, INT32, POINTER, VOID, Builder, Target
from search.losses import Elementwise, Loss, LossProgram

Values = list[ir.Value]
# The product of this many numbers between 1 and 2 is far from overflow.
_FACTORS = 64


def signatures(target: Target) -> dict[str, ir.FunctionType]:
    """The functions' types by name."""
    p, n = POINTER, INT
    return {name: _signature() for name in LOSSES} | {"best_path": ir.FunctionType(VOID, [p, n, n, n, p])}


def _signature() -> ir.FunctionType:
    p, n = POINTER, INT
    return ir.FunctionType(DOUBLE, [p, n, p, n, n, n, p, p])


def elementwise(module: ir.Module, target: Target, loss: Loss) -> ir.Function:
    """Defines the function of an elementwise loss in a module."""
    assert isinstance(loss, Elementwise)
    function = ir.Function(module, _signature(), "odyssey_loss")
    function.attributes.add("noinline")
    _elementwise(Builder(target, function), loss.program, loss.targets.gaps)
    return function


def _elementwise(b: Builder, program: LossProgram, gaps: bool) -> None:
    """The sum over steps and outputs; logarithms of factors are taken of the product over many steps."""
    logits, stride, targets, _, steps, outputs, bias_gradient, _ = b.function.args
    zero, one = b.splat(0.0), b.splat(1.0)
    with_factor = program.factor >= 0

    def column(j: ir.Value, loss: ir.Value) -> Values:
        real = b.first_lanes(b.sub(outputs, j))

        def step(t: ir.Value, linear: ir.Value, product: ir.Value, gradient: ir.Value) -> Values:
            at = b.add(b.mul(t, stride), j)
            target = b.read(targets, b.add(b.mul(t, outputs), j))
            predicted = b.and_(real, b.fcmp_ordered("ord", target, target)) if gaps else real
            target = b.select(predicted, target, zero)
            leaves = {"output": b.read(logits, at), "target": target}
            results = (program.cost, program.change, *([program.factor] if with_factor else []))
            values = vector_math.evaluated(b, program.nodes, program.order, results, lambda node: leaves[node.op])
            d = b.select(predicted, values[program.change], zero)
            b.write(d, logits, at)
            node = program.nodes[program.cost]
            if node.op == "mul":
                x, y = (values[a] for a in node.args)
                total = b.madd(x, y, linear)
            else:
                total = b.fadd(linear, values[program.cost])
            linear = b.select(predicted, total, linear) if gaps else total
            if with_factor:
                grown = b.fmul(product, values[program.factor])
                product = b.select(predicted, grown, product) if gaps else grown
            return [linear, product, b.fadd(gradient, d)]

        def chunk(first: ir.Value, loss: ir.Value, gradient: ir.Value) -> Values:
            limit = b.add(first, b.const(_FACTORS))
            stop = b.select(b.icmp_signed("<", limit, steps), limit, steps)
            linear, product, gradient = b.loop(first, stop, 1, step, [zero, one, gradient])
            return [b.fadd(loss, b.fadd(linear, vector_math.log_of_normal(b, product))), gradient]

        if with_factor:
            part, gradient = b.loop(0, steps, _FACTORS, chunk, [zero, zero])
        else:
            part, _, gradient = b.loop(0, steps, 1, step, [zero, one, zero])
        b.write(gradient, bias_gradient, j)
        return [b.fadd(loss, b.select(real, part, zero))]

    (loss,) = b.loop(0, outputs, b.target.lanes, column, [zero])
    b.ret(logit_rows.as_double(b, b.sum_lanes(loss)))


def _categorical(b: Builder, *args: ir.Value) -> None:
    """``log sum exp(a) - a[t]`` at steps with a class t >= 0."""
    logits, stride, targets, _, steps, outputs, bias_gradient, _ = args
    logit_rows.clear(b, bias_gradient, outputs)
    one = ir.Constant(b.target.real, 1.0)

    def step(t: ir.Value, total: ir.Value) -> Values:
        row = b.at(logits, b.mul(t, stride))
        wanted = logit_rows.class_at(b, targets, t)
        predicted = b.icmp_signed(">=", wanted, b.const(0))
        at = b.select(predicted, wanted, b.const(0))
        largest, _ = logit_rows.largest(b, row, outputs)
        value = b.read_one(row, at)
        sum_ = logit_rows.softmax(b, row, outputs, largest)
        loss = b.fsub(b.fadd(logit_rows.log(b, sum_), largest), value)
        b.store(b.fsub(b.read_one(row, at), one), b.at(row, at), align=b.target.itemsize)
        keep = b.broadcast(predicted, b.target.integers(1))

        def column(j: ir.Value) -> None:
            b.write(b.select(keep, b.read(row, j), b.splat(0.0)), row, j)

        b.loop(0, outputs, b.target.lanes, column)
        logit_rows.add_row(b, row, bias_gradient, outputs)
        return [b.fadd(total, b.select(predicted, logit_rows.as_double(b, loss), ir.Constant(DOUBLE, 0.0)))]

    (total,) = b.loop(0, steps, 1, step, [ir.Constant(DOUBLE, 0.0)])
    b.ret(total)


def _best_path(b: Builder, *args: ir.Value) -> None:
    """Writes the largest output of each step, int32, the first of equals."""
    logits, stride, steps, outputs, best = args

    def step(t: ir.Value) -> None:
        _, place = logit_rows.largest(b, b.at(logits, b.mul(t, stride)), outputs)
        b.store(b.trunc(place, INT32), b.gep(best, [t], source_etype=INT32), align=4)

    b.loop(0, steps, 1, step)
    b.ret_void()


LOSSES: dict[str, Callable[..., None]] = {"categorical": _categorical, "ctc": ctc}  # those that are not elementwise
EMITTERS: dict[str, Callable[..., None]] = LOSSES | {"best_path": _best_path}
