"""The losses as LLVM functions, and the reading of the best path: of elementwise losses by their equations.

A loss is ``double loss(logits, stride, targets, n_targets, steps, outputs, bias_gradient, scratch)``: of logits
[steps, stride], of which the first `outputs` of a row count, it returns the loss of the sequence, replaces the logits
by the derivatives with respect to them (zero beyond `outputs`), and writes the sums of those over time into
`bias_gradient`. `targets` are numbers [steps, outputs], or `n_targets` classes, int32.
"""

import math
from collections.abc import Callable, Sequence

from llvmlite import ir

from search.engines.cpu import vector_math
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
    b.ret(_as_double(b, b.sum_lanes(loss)))


def _categorical(b: Builder, *args: ir.Value) -> None:
    """``log sum exp(a) - a[t]`` at steps with a class t >= 0."""
    logits, stride, targets, _, steps, outputs, bias_gradient, _ = args
    _clear(b, bias_gradient, outputs)
    one = ir.Constant(b.target.real, 1.0)

    def step(t: ir.Value, total: ir.Value) -> Values:
        row = b.at(logits, b.mul(t, stride))
        wanted = _class(b, targets, t)
        predicted = b.icmp_signed(">=", wanted, b.const(0))
        at = b.select(predicted, wanted, b.const(0))
        largest, _ = _largest(b, row, outputs)
        value = b.read_one(row, at)
        sum_ = _softmax(b, row, outputs, largest)
        loss = b.fsub(b.fadd(_log(b, sum_), largest), value)
        b.store(b.fsub(b.read_one(row, at), one), b.at(row, at), align=b.target.itemsize)
        keep = b.broadcast(predicted, b.target.integers(1))

        def column(j: ir.Value) -> None:
            b.write(b.select(keep, b.read(row, j), b.splat(0.0)), row, j)

        b.loop(0, outputs, b.target.lanes, column)
        _add_row(b, row, bias_gradient, outputs)
        return [b.fadd(total, b.select(predicted, _as_double(b, loss), ir.Constant(DOUBLE, 0.0)))]

    (total,) = b.loop(0, steps, 1, step, [ir.Constant(DOUBLE, 0.0)])
    b.ret(total)


def _ctc(b: Builder, *args: ir.Value) -> None:
    """``-log`` of the probability of all alignments of the classes (Graves et al. 2006, equations 5 to 16).

    States 0 to 2 L are a blank, the first class, a blank, ... ; alpha(t, s) is the probability of all beginnings of
    alignments that are in s at t, the step included, and beta(t, s) that of all their ends, the step excluded. Both
    are far too small for any number type, so each is a mantissa in [1, 2) or 0, and a power of two: as precise as the
    type over thousands of steps, which logarithms are not, and without a transcendental function in the recurrence.
    """
    logits, stride, targets, n_targets, steps, outputs, bias_gradient, scratch = args
    lanes = b.target.lanes
    n_states = b.add(b.mul(n_targets, b.const(2)), b.const(1))
    vectors = b.mul(b.sdiv(b.add(n_states, b.const(lanes - 1)), b.const(lanes)), b.const(lanes))
    size = b.add(vectors, b.const(2 * lanes))  # of a row: room for the states before the first and after the last
    n_outputs = b.mul(b.sdiv(b.add(outputs, b.const(lanes - 1)), b.const(lanes)), b.const(lanes))
    place = scratch

    def take(count: ir.Value) -> ir.Value:
        nonlocal place
        taken, place = place, b.at(place, count)
        return taken

    def row() -> ir.Value:
        return b.at(take(size), lanes)

    wide = b.mul(steps, size)
    alpha = b.at(take(wide), lanes), b.at(take(wide), lanes)
    emission, beta, onward = ((row(), row()) for _ in range(3))
    skip, label, gamma = row(), row(), row()
    probability = take(n_outputs), take(n_outputs)
    nothing = b.splat(0.0), b.same(_integers(b, 0), _NEVER)
    blank = b.sub(outputs, b.const(1))

    def each(body: Callable[[ir.Value], None], extra: int = 0) -> None:
        """The body for each vector of states, and `extra` vectors before and after them."""
        b.loop(b.const(-extra * lanes), b.add(vectors, b.const(extra * lanes)), lanes, body)

    def clear(s: ir.Value) -> None:
        for pair in (emission, beta, onward):
            _write_pair(b, nothing, pair, s)
        _write_integers(b, nothing[1], skip, s)
        _write_integers(b, b.same(nothing[1], 0), label, s)

    each(clear, 1)

    def state(s: ir.Value) -> None:
        """Its class, and whether it may be reached from two states before: from another class, past a blank."""
        odd = b.icmp_signed("!=", b.and_(s, b.const(1)), b.const(0))
        here = b.ashr(s, b.const(1))
        first = b.icmp_signed("<", here, b.const(1))
        mine = _class(b, targets, b.select(odd, here, b.const(0)))
        before = _class(b, targets, b.select(b.or_(first, b.not_(odd)), b.const(0), b.sub(here, b.const(1))))
        may = b.and_(b.and_(odd, b.not_(first)), b.icmp_signed("!=", mine, before))
        _write_one(b, b.select(odd, mine, blank), label, s)
        _write_one(b, b.select(may, b.const(0), b.const(_NEVER)), skip, s)

    b.loop(0, n_states, 1, state)

    def emit(t: ir.Value) -> None:
        """The probability of each state's class at step t, of which the row holds the logarithms."""
        at = b.mul(t, stride)

        def output(j: ir.Value) -> None:
            _write_pair(b, _exp_pair(b, b.read(logits, b.add(at, j))), probability, j)

        b.loop(0, n_outputs, lanes, output)

        def gather(s: ir.Value) -> None:
            k = _read_one(b, label, s)
            for part, into in zip(probability, emission, strict=True):
                kind = _word(b)
                b.store(
                    b.load(b.at(part, k), typ=kind, align=b.target.itemsize), b.at(into, s), align=b.target.itemsize
                )

        b.loop(0, n_states, 1, gather)

    def normalize_row(t: ir.Value) -> None:
        """Puts the logarithms of the softmax in the place of the logits."""
        start = b.at(logits, b.mul(t, stride))
        largest, _ = _largest(b, start, outputs)

        def summed(j: ir.Value, total: ir.Value) -> Values:
            real = b.first_lanes(b.sub(outputs, j))
            e = vector_math.exp(b, b.fsub(b.read(start, j), b.splat(largest)))
            return [b.fadd(total, b.select(real, e, b.splat(0.0)))]

        (total,) = b.loop(0, outputs, lanes, summed, [b.splat(0.0)])
        shift = b.splat(b.fadd(largest, _log(b, b.sum_lanes(total))))

        def shifted(j: ir.Value) -> None:
            b.write(b.fsub(b.read(start, j), shift), start, j)

        b.loop(0, outputs, lanes, shifted)

    def at_time(pair: tuple[ir.Value, ir.Value], t: ir.Value) -> tuple[ir.Value, ir.Value]:
        offset = b.mul(t, size)
        return b.at(pair[0], offset), b.at(pair[1], offset)

    # Forwards.
    def forward(t: ir.Value) -> None:
        normalize_row(t)
        emit(t)
        now, before = at_time(alpha, t), at_time(alpha, b.sub(t, b.const(1)))
        for s in (b.const(-lanes), vectors):
            _write_pair(b, nothing, now, s)
        begun = b.icmp_signed(">", t, b.const(0))
        with b.if_else(begun) as (later, start):
            with later:

                def reach(s: ir.Value) -> None:
                    two = _read_pair(b, before, b.sub(s, b.const(2)))
                    two = two[0], b.add(two[1], _read_integers(b, skip, s))
                    terms = [_read_pair(b, before, s), _read_pair(b, before, b.sub(s, b.const(1))), two]
                    _write_pair(b, _product(b, _sum(b, terms), _read_pair(b, emission, s)), now, s)

                each(reach)
            with start:
                each(lambda s: _write_pair(b, nothing, now, s))
                for s in (0, 1):
                    for part, into in zip(emission, now, strict=True):
                        word = b.load(b.at(part, s), typ=_word(b), align=b.target.itemsize)
                        b.store(word, b.at(into, s), align=b.target.itemsize)

    b.loop(0, steps, 1, forward)
    last = at_time(alpha, b.sub(steps, b.const(1)))
    ends = []
    for back in (1, 2):
        s = b.sub(n_states, b.const(back))
        ends.append((b.splat(b.read_one(last[0], s)), _broadcast_integer(b, _read_one(b, last[1], s))))
    total = _sum(b, ends)
    inverse = b.fdiv(b.splat(1.0), total[0])

    # Backwards; the last step's beta is 1 in the last two states.
    for back in (1, 2):
        s = b.sub(n_states, b.const(back))
        b.store(ir.Constant(b.target.real, 1.0), b.at(beta[0], s), align=b.target.itemsize)
        _write_one(b, b.const(0), beta[1], s)
    _clear(b, bias_gradient, outputs)

    def backward(i: ir.Value) -> None:
        t = b.sub(b.sub(steps, b.const(1)), i)
        start = b.at(logits, b.mul(t, stride))
        emit(t)
        now = at_time(alpha, t)

        def share(s: ir.Value) -> None:
            """The probability of being in s at t, given the classes; and beta with this step included."""
            own = _read_pair(b, beta, s)
            first = _read_pair(b, now, s)
            power = _at_least(b, b.sub(b.add(own[1], first[1]), total[1]), _lowest(b))
            mantissa = b.fmul(b.fmul(own[0], first[0]), inverse)
            b.write(b.fmul(mantissa, _power_of_two(b, power)), gamma, s)
            _write_pair(b, _product(b, own, _read_pair(b, emission, s)), onward, s)

        each(share)

        def probabilities(j: ir.Value) -> None:
            real = b.first_lanes(b.sub(outputs, j))
            b.write(b.select(real, vector_math.exp(b, b.read(start, j)), b.splat(0.0)), start, j)

        b.loop(0, outputs, lanes, probabilities)

        def scatter(s: ir.Value) -> None:
            at = b.at(start, _read_one(b, label, s))
            old = b.load(at, typ=b.target.real, align=b.target.itemsize)
            b.store(b.fsub(old, b.read_one(gamma, s)), at, align=b.target.itemsize)

        b.loop(0, n_states, 1, scatter)
        _add_row(b, start, bias_gradient, outputs)

        def leave(s: ir.Value) -> None:
            second = b.add(s, b.const(2))
            two = _read_pair(b, onward, second)
            two = two[0], b.add(two[1], _read_integers(b, skip, second))
            terms = [_read_pair(b, onward, s), _read_pair(b, onward, b.add(s, b.const(1))), two]
            _write_pair(b, _sum(b, terms), beta, s)

        each(leave)

    b.loop(0, steps, 1, backward)
    mantissa = _as_double(b, b.extract_element(total[0], ir.Constant(INT32, 0)))
    power = b.sitofp(b.extract_element(total[1], ir.Constant(INT32, 0)), DOUBLE)
    log = b.unary("log", mantissa)
    b.ret(b.fneg(b.fadd(log, b.fmul(power, ir.Constant(DOUBLE, math.log(2.0))))))


def ctc_scratch(n_steps: int, n_targets: int, n_outputs: int, lanes: int) -> int:
    """Numbers of scratch memory that `_ctc` needs for a sequence."""
    size = -(-(2 * n_targets + 1) // lanes) * lanes + 2 * lanes
    return 2 * n_steps * size + 9 * size + 2 * -(-n_outputs // lanes) * lanes


def _best_path(b: Builder, *args: ir.Value) -> None:
    """Writes the largest output of each step, int32, the first of equals."""
    logits, stride, steps, outputs, best = args

    def step(t: ir.Value) -> None:
        _, place = _largest(b, b.at(logits, b.mul(t, stride)), outputs)
        b.store(b.trunc(place, INT32), b.gep(best, [t], source_etype=INT32), align=4)

    b.loop(0, steps, 1, step)
    b.ret_void()


# Rows of logits


def _largest(b: Builder, row: ir.Value, outputs: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The largest of a row, and its place."""

    def column(j: ir.Value, value: ir.Value, place: ir.Value) -> Values:
        here = b.read_one(row, j)
        larger = b.fcmp_ordered(">", here, value)
        return [b.select(larger, here, value), b.select(larger, j, place)]

    value, place = b.loop(1, outputs, 1, column, [b.read_one(row, 0), b.const(0)])
    return value, place


def _softmax(b: Builder, row: ir.Value, outputs: ir.Value, largest: ir.Value) -> ir.Value:
    """Replaces a row by its softmax, zero beyond `outputs`; returns ``sum exp(a - largest)``."""
    lanes, shift = b.target.lanes, b.splat(largest)

    def powers(j: ir.Value, total: ir.Value) -> Values:
        real = b.first_lanes(b.sub(outputs, j))
        e = b.select(real, vector_math.exp(b, b.fsub(b.read(row, j), shift)), b.splat(0.0))
        b.write(e, row, j)
        return [b.fadd(total, e)]

    (total,) = b.loop(0, outputs, lanes, powers, [b.splat(0.0)])
    sum_ = b.sum_lanes(total)
    inverse = b.splat(b.fdiv(ir.Constant(b.target.real, 1.0), sum_))

    def scaled(j: ir.Value) -> None:
        b.write(b.fmul(b.read(row, j), inverse), row, j)

    b.loop(0, outputs, lanes, scaled)
    return sum_


def _add_row(b: Builder, row: ir.Value, total: ir.Value, outputs: ir.Value) -> None:
    def column(j: ir.Value) -> None:
        b.write(b.fadd(b.read(total, j), b.read(row, j)), total, j)

    b.loop(0, outputs, b.target.lanes, column)


def _clear(b: Builder, row: ir.Value, outputs: ir.Value) -> None:
    b.loop(0, outputs, b.target.lanes, lambda j: b.write(b.splat(0.0), row, j))


def _log(b: Builder, value: ir.Value) -> ir.Value:
    """log of a number of at least 1."""
    return b.extract_element(vector_math.log_of_normal(b, b.splat(value)), ir.Constant(INT32, 0))


def _as_double(b: Builder, value: ir.Value) -> ir.Value:
    return value if value.type == DOUBLE else b.fpext(value, DOUBLE)


def _class(b: Builder, classes: ir.Value, place: ir.Value) -> ir.Value:
    return b.sext(b.load(b.gep(classes, [place], source_etype=INT32), typ=INT32, align=4), INT)


# Numbers as a mantissa in [1, 2), or 0, and a power of two; the powers are integers of the width of the mantissas

# The power of a zero: what is below half of it is zero as well, so that sums of a few stay below all others.
_NEVER = -(2**26)
# The smallest logarithm of a probability: of that, two thousand steps in a row are above zero still.
_LEAST = -1e4
Pair = tuple[ir.Value, ir.Value]


def _format(b: Builder) -> tuple[int, int]:
    """Bits of the fraction, and bias of the exponent, of the number type."""
    return (23, 127) if b.target.dtype == "float32" else (52, 1023)


def _word(b: Builder) -> ir.IntType:
    return ir.IntType(8 * b.target.itemsize)


def _integers(b: Builder, value: int) -> ir.Constant:
    kind = b.target.integers(8 * b.target.itemsize)
    return ir.Constant(kind, [value] * kind.count)


def _broadcast_integer(b: Builder, value: ir.Value) -> ir.Value:
    word = value if _word(b) == INT else b.trunc(value, _word(b))
    return b.broadcast(word, b.target.integers(8 * b.target.itemsize))


def _lowest(b: Builder) -> int:
    """Power of the smallest normal number."""
    return 1 - _format(b)[1]


def _read_integers(b: Builder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    kind = b.target.integers(8 * b.target.itemsize)
    return b.load(b.at(pointer, offset), typ=kind, align=b.target.itemsize)


def _write_integers(b: Builder, value: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
    b.store(value, b.at(pointer, offset), align=b.target.itemsize)


def _read_one(b: Builder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    word = b.load(b.at(pointer, offset), typ=_word(b), align=b.target.itemsize)
    return word if _word(b) == INT else b.sext(word, INT)


def _write_one(b: Builder, value: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
    word = value if _word(b) == INT else b.trunc(value, _word(b))
    b.store(word, b.at(pointer, offset), align=b.target.itemsize)


def _read_pair(b: Builder, pair: Pair, offset: ir.Value) -> Pair:
    return b.read(pair[0], offset), _read_integers(b, pair[1], offset)


def _write_pair(b: Builder, value: Pair, pair: Pair, offset: ir.Value) -> None:
    b.write(value[0], pair[0], offset)
    _write_integers(b, value[1], pair[1], offset)


def _power_of_two(b: Builder, power: ir.Value) -> ir.Value:
    fraction, bias = _format(b)
    return b.bitcast(b.shl(b.add(power, b.same(power, bias)), b.same(power, fraction)), b.target.vector)


def _at_least(b: Builder, value: ir.Value, low: int) -> ir.Value:
    floor = b.same(value, low)
    return b.select(b.icmp_signed("<", value, floor), floor, value)


def _normal(b: Builder, mantissa: ir.Value, power: ir.Value) -> Pair:
    """The same number with its mantissa in [1, 2), or zero."""
    fraction, bias = _format(b)
    bits = b.bitcast(mantissa, power.type)
    more = b.sub(b.ashr(bits, b.same(bits, fraction)), b.same(bits, bias))
    scaled = b.bitcast(b.sub(bits, b.shl(more, b.same(bits, fraction))), b.target.vector)
    gone = b.icmp_signed("<", power, b.same(power, _NEVER // 2))
    zero = b.or_(gone, b.fcmp_ordered("==", mantissa, b.splat(0.0)))
    power = b.select(zero, b.same(power, _NEVER), b.add(power, more))
    return b.select(zero, b.splat(0.0), scaled), power


def _sum(b: Builder, terms: Sequence[Pair]) -> Pair:
    largest = terms[0][1]
    for _, power in terms[1:]:
        largest = b.select(b.icmp_signed(">", power, largest), power, largest)
    total = b.splat(0.0)
    for mantissa, power in terms:
        total = b.madd(mantissa, _power_of_two(b, _at_least(b, b.sub(power, largest), _lowest(b))), total)
    return _normal(b, total, largest)


def _product(b: Builder, one: Pair, other: Pair) -> Pair:
    return _normal(b, b.fmul(one[0], other[0]), b.add(one[1], other[1]))


def _exp_pair(b: Builder, x: ir.Value) -> Pair:
    """exp of x <= 0."""
    x = vector_math.clamp(b, x, _LEAST, 0.0)
    if b.target.dtype == "float32":
        mantissa, power = vector_math.exp_parts(b, x)
    else:
        turns = b.unary("rint", b.fmul(x, b.splat(math.log2(math.e))))
        rest = b.madd(
            turns, b.splat(-1.90821492927058770002e-10), b.madd(turns, b.splat(-6.93147180369123816490e-01), x)
        )
        mantissa, power = b.unary("exp", rest), b.fptosi(turns, b.target.integers(64))
    return _normal(b, mantissa, power)


LOSSES: dict[str, Callable[..., None]] = {"categorical": _categorical, "ctc": _ctc}  # those that are not elementwise
EMITTERS: dict[str, Callable[..., None]] = LOSSES | {"best_path": _best_path}
