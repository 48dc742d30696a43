"""Connectionist temporal classification (Graves et al. 2006) as an LLVM function."""

import math
from collections.abc import Callable

from llvmlite import ir

from search.engines.cpu import logit_rows, scaled, vector_math
from search.engines.cpu.llvm import DOUBLE, INT32, Builder
from search.engines.cpu.scaled import NEVER, Pair

Values = list[ir.Value]


def ctc_scratch(n_steps: int, n_targets: int, n_outputs: int, lanes: int) -> int:
    """Numbers of scratch memory that `ctc` needs for a sequence."""
    size = -(-(2 * n_targets + 1) // lanes) * lanes + 2 * lanes
    return 2 * n_steps * size + 9 * size + 2 * -(-n_outputs // lanes) * lanes


def ctc(b: Builder, *args: ir.Value) -> None:
    """``-log`` of the probability of all alignments of the classes (Graves et al. 2006, equations 5 to 16).

    States 0 to 2 L are a blank, the first class, a blank, ... ; alpha(t, s) is the probability of all beginnings of
    alignments that are in s at t, the step included, and beta(t, s) that of all their ends, the step excluded. Both
    are far too small for any number type, so each is `scaled`: as precise as the type over thousands of steps, which
    logarithms are not, and without a transcendental function in the recurrence.
    """
    _Ctc(b, *args).emit()


class _Ctc:
    def __init__(self, b: Builder, *args: ir.Value):
        self.b, lanes = b, b.target.lanes
        self.logits, self.stride, self.targets, n_targets, self.steps, self.outputs, self.bias_gradient, scratch = args
        self.n_states = b.add(b.mul(n_targets, b.const(2)), b.const(1))
        self.vectors = self._whole(self.n_states)
        self.size = b.add(self.vectors, b.const(2 * lanes))  # of a row: room before the first state and after the last
        self.n_outputs = self._whole(self.outputs)
        self._place = scratch
        wide = b.mul(self.steps, self.size)
        self.alpha = b.at(self._take(wide), lanes), b.at(self._take(wide), lanes)
        self.emission, self.beta, self.onward = ((self._row(), self._row()) for _ in range(3))
        self.skip, self.label, self.gamma = self._row(), self._row(), self._row()
        self.probability = self._take(self.n_outputs), self._take(self.n_outputs)
        self.nothing = b.splat(0.0), b.same(scaled.integers(b, 0), NEVER)
        self.blank = b.sub(self.outputs, b.const(1))

    def _whole(self, count: ir.Value) -> ir.Value:
        """A count in whole vectors."""
        b, lanes = self.b, self.b.target.lanes
        return b.mul(b.sdiv(b.add(count, b.const(lanes - 1)), b.const(lanes)), b.const(lanes))

    def _take(self, count: ir.Value) -> ir.Value:
        taken, self._place = self._place, self.b.at(self._place, count)
        return taken

    def _row(self) -> ir.Value:
        return self.b.at(self._take(self.size), self.b.target.lanes)

    def emit(self) -> None:
        b = self.b
        self._each(self._clear, 1)
        b.loop(0, self.n_states, 1, self._state)
        b.loop(0, self.steps, 1, self._forward)
        total = self._total()
        # The last step's beta is 1 in the last two states.
        for back in (1, 2):
            s = b.sub(self.n_states, b.const(back))
            b.store(ir.Constant(b.target.real, 1.0), b.at(self.beta[0], s), align=b.target.itemsize)
            scaled.write_one(b, b.const(0), self.beta[1], s)
        logit_rows.clear(b, self.bias_gradient, self.outputs)
        inverse = b.fdiv(b.splat(1.0), total[0])
        b.loop(0, self.steps, 1, lambda i: self._backward(i, total, inverse))
        mantissa = logit_rows.as_double(b, b.extract_element(total[0], ir.Constant(INT32, 0)))
        power = b.sitofp(b.extract_element(total[1], ir.Constant(INT32, 0)), DOUBLE)
        log = b.unary("log", mantissa)
        b.ret(b.fneg(b.fadd(log, b.fmul(power, ir.Constant(DOUBLE, math.log(2.0))))))

    def _each(self, body: Callable[[ir.Value], None], extra: int = 0) -> None:
        """The body for each vector of states, and `extra` vectors before and after them."""
        b, lanes = self.b, self.b.target.lanes
        b.loop(b.const(-extra * lanes), b.add(self.vectors, b.const(extra * lanes)), lanes, body)

    def _clear(self, s: ir.Value) -> None:
        b = self.b
        for pair in (self.emission, self.beta, self.onward):
            scaled.write(b, self.nothing, pair, s)
        scaled.write_integers(b, self.nothing[1], self.skip, s)
        scaled.write_integers(b, b.same(self.nothing[1], 0), self.label, s)

    def _state(self, s: ir.Value) -> None:
        """Its class, and whether it may be reached from two states before: from another class, past a blank."""
        b = self.b
        odd = b.icmp_signed("!=", b.and_(s, b.const(1)), b.const(0))
        here = b.ashr(s, b.const(1))
        first = b.icmp_signed("<", here, b.const(1))
        mine = logit_rows.class_at(b, self.targets, b.select(odd, here, b.const(0)))
        earlier = b.select(b.or_(first, b.not_(odd)), b.const(0), b.sub(here, b.const(1)))
        may = b.icmp_signed("!=", mine, logit_rows.class_at(b, self.targets, earlier))
        may = b.and_(b.and_(odd, b.not_(first)), may)
        scaled.write_one(b, b.select(odd, mine, self.blank), self.label, s)
        scaled.write_one(b, b.select(may, b.const(0), b.const(NEVER)), self.skip, s)

    def _emit(self, t: ir.Value) -> None:
        """The probability of each state's class at step t, of which the row holds the logarithms."""
        b, at = self.b, self.b.mul(t, self.stride)

        def output(j: ir.Value) -> None:
            scaled.write(b, scaled.exp(b, b.read(self.logits, b.add(at, j))), self.probability, j)

        b.loop(0, self.n_outputs, b.target.lanes, output)

        def gather(s: ir.Value) -> None:
            k = scaled.read_one(b, self.label, s)
            for part, into in zip(self.probability, self.emission, strict=True):
                self._copy(b.at(part, k), b.at(into, s))

        b.loop(0, self.n_states, 1, gather)

    def _copy(self, source: ir.Value, target: ir.Value) -> None:
        """One word, whatever it holds."""
        b = self.b
        b.store(b.load(source, typ=scaled.word(b), align=b.target.itemsize), target, align=b.target.itemsize)

    def _normalize(self, t: ir.Value) -> None:
        """Puts the logarithms of the softmax in the place of the logits."""
        b, lanes = self.b, self.b.target.lanes
        start = b.at(self.logits, b.mul(t, self.stride))
        largest, _ = logit_rows.largest(b, start, self.outputs)

        def summed(j: ir.Value, total: ir.Value) -> Values:
            real = b.first_lanes(b.sub(self.outputs, j))
            e = vector_math.exp(b, b.fsub(b.read(start, j), b.splat(largest)))
            return [b.fadd(total, b.select(real, e, b.splat(0.0)))]

        (total,) = b.loop(0, self.outputs, lanes, summed, [b.splat(0.0)])
        shift = b.splat(b.fadd(largest, logit_rows.log(b, b.sum_lanes(total))))
        b.loop(0, self.outputs, lanes, lambda j: b.write(b.fsub(b.read(start, j), shift), start, j))

    def _at_time(self, pair: Pair, t: ir.Value) -> Pair:
        offset = self.b.mul(t, self.size)
        return self.b.at(pair[0], offset), self.b.at(pair[1], offset)

    def _reaching(self, pair: Pair, s: ir.Value, one: ir.Value, two: ir.Value, skipped: ir.Value) -> list[Pair]:
        """What is in a state, in the one next to it, and in the one after that if that may be skipped to."""
        b = self.b
        far = scaled.read(b, pair, two)
        far = far[0], b.add(far[1], scaled.read_integers(b, self.skip, skipped))
        return [scaled.read(b, pair, s), scaled.read(b, pair, one), far]

    def _forward(self, t: ir.Value) -> None:
        b = self.b
        self._normalize(t)
        self._emit(t)
        now, before = self._at_time(self.alpha, t), self._at_time(self.alpha, b.sub(t, b.const(1)))
        for s in (b.const(-b.target.lanes), self.vectors):
            scaled.write(b, self.nothing, now, s)
        begun = b.icmp_signed(">", t, b.const(0))
        with b.if_else(begun) as (later, start):
            with later:

                def reach(s: ir.Value) -> None:
                    terms = self._reaching(before, s, b.sub(s, b.const(1)), b.sub(s, b.const(2)), s)
                    reached = scaled.multiply(b, scaled.add(b, terms), scaled.read(b, self.emission, s))
                    scaled.write(b, reached, now, s)

                self._each(reach)
            with start:
                self._each(lambda s: scaled.write(b, self.nothing, now, s))
                for s in (0, 1):
                    for part, into in zip(self.emission, now, strict=True):
                        self._copy(b.at(part, s), b.at(into, s))

    def _total(self) -> Pair:
        """The probability of the classes: of the last two states at the last step."""
        b = self.b
        last = self._at_time(self.alpha, b.sub(self.steps, b.const(1)))
        ends = []
        for back in (1, 2):
            s = b.sub(self.n_states, b.const(back))
            power = scaled.broadcast_integer(b, scaled.read_one(b, last[1], s))
            ends.append((b.splat(b.read_one(last[0], s)), power))
        return scaled.add(b, ends)

    def _backward(self, i: ir.Value, total: Pair, inverse: ir.Value) -> None:
        b = self.b
        t = b.sub(b.sub(self.steps, b.const(1)), i)
        start = b.at(self.logits, b.mul(t, self.stride))
        self._emit(t)
        now = self._at_time(self.alpha, t)

        def share(s: ir.Value) -> None:
            """The probability of being in s at t, given the classes; and beta with this step included."""
            own, first = scaled.read(b, self.beta, s), scaled.read(b, now, s)
            power = scaled.at_least(b, b.sub(b.add(own[1], first[1]), total[1]), scaled.lowest(b))
            mantissa = b.fmul(b.fmul(own[0], first[0]), inverse)
            b.write(b.fmul(mantissa, scaled.power_of_two(b, power)), self.gamma, s)
            scaled.write(b, scaled.multiply(b, own, scaled.read(b, self.emission, s)), self.onward, s)

        self._each(share)

        def probabilities(j: ir.Value) -> None:
            real = b.first_lanes(b.sub(self.outputs, j))
            b.write(b.select(real, vector_math.exp(b, b.read(start, j)), b.splat(0.0)), start, j)

        b.loop(0, self.outputs, b.target.lanes, probabilities)

        def scatter(s: ir.Value) -> None:
            at = b.at(start, scaled.read_one(b, self.label, s))
            old = b.load(at, typ=b.target.real, align=b.target.itemsize)
            b.store(b.fsub(old, b.read_one(self.gamma, s)), at, align=b.target.itemsize)

        b.loop(0, self.n_states, 1, scatter)
        logit_rows.add_row(b, start, self.bias_gradient, self.outputs)

        def leave(s: ir.Value) -> None:
            one, two = b.add(s, b.const(1)), b.add(s, b.const(2))
            scaled.write(b, scaled.add(b, self._reaching(self.onward, s, one, two, two)), self.beta, s)

        self._each(leave)
